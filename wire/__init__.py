"""What both ends of the control channel share: frames, messages, manifest, artifacts, identity."""
