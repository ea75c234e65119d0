"""The eBPF tap with real packets between two namespaces."""
