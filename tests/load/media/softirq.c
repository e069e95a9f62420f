/*
 * softirq OBJECT PID CORE: counts network softirq time on CORE outside of process PID (softirq.bpf.c). Prints "ready", then
 * the nanoseconds so far for every line on its standard input.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	uint32_t zero = 0, pid = argc > 2 ? (uint32_t)atoi(argv[2]) : 0, core = argc > 3 ? (uint32_t)atoi(argv[3]) : 0;
	struct bpf_object *object = argc > 3 ? bpf_object__open_file(argv[1], NULL) : NULL;
	struct bpf_program *program;
	char line[16];
	if (!object || bpf_object__load(object))
		return 1;
	bpf_object__for_each_program(program, object)
		if (!bpf_program__attach(program))
			return 1;
	if (bpf_map_update_elem(bpf_object__find_map_fd_by_name(object, "relay_pid"), &zero, &pid, BPF_ANY))
		return 1;
	int sums = bpf_object__find_map_fd_by_name(object, "outside_ns");
	for (puts("ready"), fflush(stdout); fgets(line, sizeof line, stdin); fflush(stdout)) {
		uint64_t sum = 0;
		if (bpf_map_lookup_elem(sums, &core, &sum))
			return 1;
		printf("%lu\n", sum);
	}
	return 0;
}
