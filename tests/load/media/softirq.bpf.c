/*
 * Time that network softirqs take on each core while the relay's process is not the one interrupted: what the scheduler's
 * own accounting (schedstat) does not charge to the relay. Raw tracepoints; read with bpftool.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

enum { NET_RX = 3, CORES = 64 };

struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, 1); __type(key, __u32); __type(value, __u32); } relay_pid SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, CORES); __type(key, __u32); __type(value, __u64); } since SEC(".maps");
struct { __uint(type, BPF_MAP_TYPE_ARRAY); __uint(max_entries, CORES); __type(key, __u32); __type(value, __u64); } outside_ns SEC(".maps");

SEC("raw_tp/softirq_entry")
int entry(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 core = bpf_get_smp_processor_id();
	__u64 *begin = bpf_map_lookup_elem(&since, &core);
	if (begin && ctx->args[0] == NET_RX)
		*begin = bpf_ktime_get_ns();
	return 0;
}

SEC("raw_tp/softirq_exit")
int leave(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 core = bpf_get_smp_processor_id(), zero = 0;
	__u64 *begin = bpf_map_lookup_elem(&since, &core), *sum = bpf_map_lookup_elem(&outside_ns, &core);
	__u32 *pid = bpf_map_lookup_elem(&relay_pid, &zero);
	if (!begin || !sum || !pid || !*begin || ctx->args[0] != NET_RX)
		return 0;
	if (bpf_get_current_pid_tgid() >> 32 != *pid)
		*sum += bpf_ktime_get_ns() - *begin;
	*begin = 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
