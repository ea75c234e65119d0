"""The kernel tap's demonstration, in a guest: `make demo-vm`."""
