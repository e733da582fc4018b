"""What the device keeps on disk: artifacts, the bundles among them, and the ledger."""
