"""The receiver of webhook deliveries: stores what arrives, processes nothing."""
