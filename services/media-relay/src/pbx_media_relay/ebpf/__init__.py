"""The kernel's side of the `ebpf` datapath: bpf(2), the object, maps, pins, interfaces. No call logic, no packets."""
