/*
 * The sk_lookup program and its two maps, by bpf(2) alone: no libbpf, no compiler. It is an accelerator, not a datapath:
 * every port keeps its own bound socket, which holds the port, sends, and receives whatever is not steered.
 */
#include "steer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SLOT_COUNT = 8192, CODE_MAX = 64 };

#define INSN(op, to, from, offset, value) \
	((struct bpf_insn){.code = (op), .dst_reg = (to), .src_reg = (from), .off = (offset), .imm = (value)})
#define LOAD(to, from, offset) INSN(BPF_LDX | BPF_MEM | BPF_W, to, from, offset, 0)
#define MOVE(to, from) INSN(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
#define SET(to, value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value)
#define STORE_KEY(from) INSN(BPF_STX | BPF_MEM | BPF_W, BPF_REG_10, from, -4, 0)
#define CALL(helper) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define FIELD(name) ((int16_t)offsetof(struct bpf_sk_lookup, name))

struct code {
	struct bpf_insn at[CODE_MAX];
	int count;
};

static int bpf(int command, union bpf_attr *attributes)
{
	long result = syscall(SYS_bpf, command, attributes, sizeof *attributes);
	return result < 0 ? -errno : (int)result;
}

static void add(struct code *code, struct bpf_insn insn)
{
	code->at[code->count++] = insn;
}

/* Jumps to `pass` are written with offset 0 and aimed at the end when the program is complete. */
static void pass_if(struct code *code, int op, int reg, int value)
{
	add(code, INSN(BPF_JMP32 | op | BPF_K, (uint8_t)reg, 0, 0, value));
}

static void look_up(struct code *code, int map)
{
	add(code, INSN(BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map));
	add(code, INSN(0, 0, 0, 0, 0));
	add(code, MOVE(BPF_REG_2, BPF_REG_10));
	add(code, INSN(BPF_ALU64 | BPF_ADD | BPF_K, BPF_REG_2, 0, 0, -4));
	add(code, CALL(BPF_FUNC_map_lookup_elem));
	add(code, INSN(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_0, 0, 0, 0));
}

/* Passes packets to another local address than the bound one; a wildcard takes all. */
static void match_address(struct code *code, const pr_endpoint *local, int16_t field, int words)
{
	static const uint8_t any[16];
	const uint8_t *address = local->addr + 16 - 4 * words;
	for (int i = 0; i < words && memcmp(address, any, (size_t)words * 4); i++) {
		int32_t word;
		memcpy(&word, address + 4 * i, 4);
		add(code, LOAD(BPF_REG_2, BPF_REG_6, (int16_t)(field + 4 * i)));
		pass_if(code, BPF_JNE, BPF_REG_2, word);
	}
}

static void compose(struct code *code, const struct steer *steer, const pr_endpoint *v4, const pr_endpoint *v6)
{
	add(code, MOVE(BPF_REG_6, BPF_REG_1));
	add(code, LOAD(BPF_REG_2, BPF_REG_6, FIELD(protocol)));
	pass_if(code, BPF_JNE, BPF_REG_2, IPPROTO_UDP);
	add(code, LOAD(BPF_REG_2, BPF_REG_6, FIELD(local_port)));
	add(code, INSN(BPF_ALU64 | BPF_RSH | BPF_K, BPF_REG_2, 0, 0, 3));
	add(code, STORE_KEY(BPF_REG_2));
	look_up(code, steer->slots_fd);
	add(code, LOAD(BPF_REG_7, BPF_REG_0, 0)); /* 1 + 2 * worker: the key of its IPv6 socket */
	pass_if(code, BPF_JEQ, BPF_REG_7, 0);
	add(code, LOAD(BPF_REG_2, BPF_REG_6, FIELD(family)));
	int to_v4 = code->count;
	add(code, INSN(BPF_JMP32 | BPF_JEQ | BPF_K, BPF_REG_2, 0, 0, AF_INET));
	if (v6)
		match_address(code, v6, FIELD(local_ip6), 4);
	else
		pass_if(code, BPF_JNE, BPF_REG_2, AF_INET);
	int over_v4 = code->count;
	add(code, INSN(BPF_JMP | BPF_JA, 0, 0, 0, 0));
	code->at[to_v4].off = (int16_t)(code->count - to_v4 - 1);
	if (v4)
		match_address(code, v4, FIELD(local_ip4), 1);
	add(code, INSN(BPF_ALU64 | BPF_SUB | BPF_K, BPF_REG_7, 0, 0, 1));
	code->at[over_v4].off = (int16_t)(code->count - over_v4 - 1);
	add(code, STORE_KEY(BPF_REG_7));
	look_up(code, steer->sockets_fd);
	add(code, MOVE(BPF_REG_7, BPF_REG_0));
	add(code, MOVE(BPF_REG_1, BPF_REG_6));
	add(code, MOVE(BPF_REG_2, BPF_REG_0));
	add(code, SET(BPF_REG_3, 0));
	add(code, CALL(BPF_FUNC_sk_assign));
	add(code, MOVE(BPF_REG_1, BPF_REG_7));
	add(code, CALL(BPF_FUNC_sk_release));
	for (int i = 0; i < code->count; i++) {
		int class = BPF_CLASS(code->at[i].code), op = BPF_OP(code->at[i].code);
		if ((class == BPF_JMP || class == BPF_JMP32) && (op == BPF_JEQ || op == BPF_JNE) && !code->at[i].off)
			code->at[i].off = (int16_t)(code->count - i - 1);
	}
	add(code, SET(BPF_REG_0, SK_PASS));
	add(code, INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
}

static int map_open(uint32_t type, uint32_t value_size, uint32_t entries, uint32_t flags)
{
	union bpf_attr attributes = {.map_type = type, .key_size = 4, .value_size = value_size, .max_entries = entries,
				     .map_flags = flags};
	return bpf(BPF_MAP_CREATE, &attributes);
}

static int program_open(const struct code *code)
{
	union bpf_attr attributes = {.prog_type = BPF_PROG_TYPE_SK_LOOKUP, .insns = (uint64_t)(uintptr_t)code->at,
		.insn_cnt = (uint32_t)code->count, .license = (uint64_t)(uintptr_t)"GPL",
		.expected_attach_type = BPF_SK_LOOKUP};
	return bpf(BPF_PROG_LOAD, &attributes);
}

static int link_open(int program)
{
	int space = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	if (space < 0)
		return -errno;
	union bpf_attr attributes = {.link_create = {.prog_fd = (uint32_t)program, .target_fd = (uint32_t)space,
						     .attach_type = BPF_SK_LOOKUP}};
	int link = bpf(BPF_LINK_CREATE, &attributes);
	close(space);
	return link;
}

static int steer_load(struct steer *steer, const pr_endpoint *v4, const pr_endpoint *v6)
{
	struct code code = {.count = 0};
	if ((steer->slots_fd = map_open(BPF_MAP_TYPE_ARRAY, 8, SLOT_COUNT, BPF_F_MMAPABLE)) < 0)
		return steer->slots_fd;
	if ((steer->sockets_fd = map_open(BPF_MAP_TYPE_SOCKMAP, 8, STEER_SOCKETS_MAX, 0)) < 0)
		return steer->sockets_fd;
	steer->slots = mmap(NULL, SLOT_COUNT * sizeof *steer->slots, PROT_READ | PROT_WRITE, MAP_SHARED, steer->slots_fd, 0);
	if (steer->slots == MAP_FAILED) {
		steer->slots = NULL;
		return -errno;
	}
	compose(&code, steer, v4, v6);
	if ((steer->program_fd = program_open(&code)) < 0)
		return steer->program_fd;
	steer->link_fd = link_open(steer->program_fd);
	return steer->link_fd < 0 ? steer->link_fd : 0;
}

int steer_open(struct steer *steer, const pr_endpoint bind[2])
{
	static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	const pr_endpoint *of[2] = {NULL, NULL};
	for (int i = 0; i < 2; i++)
		if (bind[i].port)
			of[memcmp(bind[i].addr, mapped, sizeof mapped) != 0] = &bind[i];
	*steer = (struct steer){-1, -1, -1, -1, NULL};
	int error = steer_load(steer, of[0], of[1]);
	if (error)
		steer_close(steer);
	return error;
}

void steer_close(struct steer *steer)
{
	int *fds[] = {&steer->link_fd, &steer->program_fd, &steer->sockets_fd, &steer->slots_fd};
	if (steer->slots)
		munmap(steer->slots, SLOT_COUNT * sizeof *steer->slots);
	steer->slots = NULL;
	for (unsigned i = 0; i < sizeof fds / sizeof fds[0]; i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

int steer_socket(struct steer *steer, uint32_t worker, int family, int fd)
{
	uint32_t key = 2 * worker + (uint32_t)family;
	uint64_t value = (uint64_t)fd;
	union bpf_attr attributes = {.map_fd = (uint32_t)steer->sockets_fd, .key = (uint64_t)(uintptr_t)&key,
				     .value = (uint64_t)(uintptr_t)&value, .flags = BPF_ANY};
	return bpf(BPF_MAP_UPDATE_ELEM, &attributes);
}

void steer_slot(struct steer *steer, uint32_t slot, uint32_t worker)
{
	if (steer->slots)
		__atomic_store_n(&steer->slots[slot], 1 + 2 * (uint64_t)worker, __ATOMIC_RELEASE);
}

void steer_stop(struct steer *steer, uint32_t slot)
{
	if (steer->slots)
		__atomic_store_n(&steer->slots[slot], 0, __ATOMIC_RELEASE);
}
