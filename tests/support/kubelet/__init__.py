"""A stand-in for the kubelet: what it makes of a pod's text, and pods as real processes."""
