"""How contacts come in: from files into `crm.contacts`, and from the source into the mirror.

What is done with them afterwards (plan, waterfall, merge) is not known here.
"""
