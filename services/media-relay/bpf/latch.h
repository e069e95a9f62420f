/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * When a packet's source is accepted, and when it is learned (RFC 7362): latching.py, word for word. The latched
 * source has two places and a word that says which counts, so that the other direction, on another CPU, never reads
 * half of one. Two CPUs that would latch at once: one wins, the other's packet is refused.
 */
#pragma once
#include "packet.h"

enum rank { NONE, ANY, FORMER, HINTED, EXACT };
#define SETTLE_NS 3000000000ULL
#define LATCH_WINDOW_NS 30000000000ULL
#define STRAGGLER_NS 1000000000ULL
#define SEQUENTIAL_STEP_MAX 3

inline int same_host(const struct host *host, const struct endpoint *from)
{
	return host->family == from->family && same_address(host->address, from->address);
}

inline struct learned *current(struct latch *latch)
{
	return &latch->learned[*(volatile __u32 *)&latch->word & 1];
}

inline __u32 rank_of(struct latch *latch, const struct forward *f, const struct leg *leg, const struct endpoint *from)
{
	if (same_endpoint(&leg->announced, from))
		return EXACT;
	if ((leg->announced.family == from->family && same_address(leg->announced.address, from->address)) ||
	    same_host(&f->hint, from))
		return latch->epoch && latch->epoch != leg->epoch && same_endpoint(&current(latch)->source, from) ? FORMER
														  : HINTED;
	return f->hint.family ? NONE : ANY;
}

inline int is_latched(struct latch *latch, const struct leg *leg, const struct endpoint *from)
{
	return latch->epoch == leg->epoch && same_endpoint(&current(latch)->source, from);
}

inline int second(struct latch *latch, const struct leg *leg, const struct endpoint *from, __u32 ssrc, __u32 sequence)
{
	__u32 step = (sequence - latch->candidate_sequence) & 0xffff;
	int follows = latch->candidate_epoch == leg->epoch && same_endpoint(&latch->candidate, from) &&
		      latch->candidate_ssrc == ssrc && step >= 1 && step <= SEQUENTIAL_STEP_MAX;

	latch->candidate = *from;
	latch->candidate_epoch = leg->epoch;
	latch->candidate_ssrc = ssrc;
	latch->candidate_sequence = sequence;
	return follows;
}

inline void learn(struct latch *latch, const struct leg *leg, const struct packet *p, __u32 ifindex, __u32 rank,
		  __u64 until_ns)
{
	struct learned *spare = &latch->learned[(latch->word & 1) ^ 1];

	spare->source = p->from;
	__builtin_memcpy(spare->local, p->to, 16);
	spare->ifindex = ifindex;
	latch->rank = rank;
	latch->until_ns = until_ns;
	latch->aim = leg->aim;
	__sync_fetch_and_add(&latch->word, 1);
	*(volatile __u32 *)&latch->epoch = leg->epoch;
}

/* `rank` is how well the source fits; `rtp` is NULL for RTCP, which needs no second packet. */
inline int may_learn(struct latch *latch, const struct forward *f, const struct leg *leg, const struct packet *p,
		     __u32 ifindex, __u32 rank, int plausible, const struct rtp *rtp, __u64 now)
{
	int latched = latch->epoch == leg->epoch;
	__u64 until = latched ? latch->until_ns : f->until_ns;

	/* After a move what comes from the place before is late. */
	if (rank == FORMER && latch->aim != leg->aim && now + (LATCH_WINDOW_NS - STRAGGLER_NS) < until)
		return 0;
	if (rank != EXACT && !(rank > (latched ? latch->rank : NONE) && plausible && now < until))
		return 0;
	if (rank == ANY && rtp && !second(latch, leg, &p->from, rtp->ssrc, bpf_ntohs(rtp->sequence)))
		return 0;
	if (rank == EXACT)
		until = 0;
	else if (!latched && until > now + SETTLE_NS)
		until = now + SETTLE_NS;
	learn(latch, leg, p, ifindex, rank, until);
	return 1;
}

inline int accept(struct latch *latch, const struct forward *f, const struct leg *leg, const struct packet *p,
		  __u32 ifindex, __u32 rank, int plausible, const struct rtp *rtp, __u64 now)
{
	if (__sync_val_compare_and_swap(&latch->lock, 0, 1))
		return 0;
	int accepted = may_learn(latch, f, leg, p, ifindex, rank, plausible, rtp, now);
	__sync_val_compare_and_swap(&latch->lock, 1, 0);
	return accepted;
}
