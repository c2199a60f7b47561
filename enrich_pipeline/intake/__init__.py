"""How contacts come in: from files into `crm.contacts`, and from the source into the mirror.

What is done with them afterwards (plan, waterfall, merge) is not known here.
"""

from enrich_pipeline.intake.load import LoadSummary, load_file
from enrich_pipeline.intake.source import SyncSummary, sync_source

__all__ = ["LoadSummary", "SyncSummary", "load_file", "sync_source"]
