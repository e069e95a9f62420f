/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* RTP reception statistics and round trips: reception.py and roundtrip.py in C. One stream's packets come on one CPU. */
#pragma once
#include "packet.h"

#define SECOND_NS 1000000000ULL
#define MAX_DROPOUT 3000
#define MAX_MISORDER 100
#define SEEN_WINDOW 64
#define JUMP_S 3
#define REPORT_STEPS 10 /* packets and blocks of one compound that are looked at: SR, SDES and some blocks */
#define SENDER_REPORT 200
#define RECEIVER_REPORT 201
#define RTT_MAX_NS 10000000000ULL

inline void restart(struct reception *r, __u32 sequence)
{
	r->lost_before += r->max - r->base + 1 - (__s64)r->received;
	r->max = r->base = sequence;
	r->received = r->seen = 1;
	r->bad = r->has_transit = r->has_timestamp = 0;
}

inline void count_late(struct reception *r, __u32 behind)
{
	if (behind < SEEN_WINDOW) {
		if (r->seen >> behind & 1) {
			r->duplicate++;
			return;
		}
		r->seen |= 1ULL << behind;
	}
	r->reordered++;
	r->received++;
	if (r->max - (__s64)behind < r->base)
		r->base = r->max - behind;
}

/* Whether the packet is the newest. */
inline int count(struct reception *r, __u32 sequence)
{
	__u32 step = (sequence - (__u32)r->max) & 0xffff;

	if (!step) {
		r->duplicate++;
		return 0;
	}
	if (step < MAX_DROPOUT) {
		r->seen = step < SEEN_WINDOW ? r->seen << step | 1 : 1;
		r->max += step;
		r->received++;
		r->bad = 0;
		return 1;
	}
	if (step >= 0x10000 - MAX_MISORDER) {
		count_late(r, 0x10000 - step);
		return 0;
	}
	if (sequence + 1 == r->bad) {
		restart(r, sequence);
		return 1;
	}
	r->bad = ((sequence + 1) & 0xffff) + 1;
	return 0;
}

inline void measure(struct reception *r, __u32 timestamp, __u32 clock_rate, __u64 now)
{
	__u64 arrival = now / SECOND_NS * clock_rate + now % SECOND_NS * clock_rate / SECOND_NS;
	__u32 transit = (__u32)arrival - timestamp;
	__u32 change = transit - r->transit;
	__u32 had = r->has_transit;

	r->transit = transit;
	r->has_transit = 1;
	if (!had)
		return;
	if (change >= 0x80000000U)
		change = -change;
	if (change > (__u64)JUMP_S * clock_rate)
		return;
	r->jitter_measured = 1;
	r->jitter_q4 += change - ((r->jitter_q4 + 8) >> 4);
}

inline void received(struct reception *r, const struct forward *f, const struct rtp *rtp, __u64 now)
{
	__u32 sequence = bpf_ntohs(rtp->sequence), timestamp = bpf_ntohl(rtp->timestamp);
	int in_order = 1;

	if (r->pauses != f->pauses) { /* told to stop meanwhile: the silence is no gap */
		r->pauses = f->pauses;
		r->gap_last_ns = r->has_transit = 0;
	}
	if (r->gap_last_ns && now - r->gap_last_ns > r->gap_max_ns)
		r->gap_max_ns = now - r->gap_last_ns;
	r->gap_last_ns = now;
	if (!r->has_ssrc || rtp->ssrc != r->ssrc) {
		r->ssrc_changes += r->has_ssrc;
		if (!r->has_ssrc)
			r->base = 1; /* nothing expected yet */
		r->has_ssrc = 1;
		r->ssrc = rtp->ssrc;
		restart(r, sequence);
	} else {
		in_order = count(r, sequence);
	}
	if (f->clock_rate && in_order && !(r->has_timestamp && timestamp == r->timestamp)) {
		measure(r, timestamp, f->clock_rate, now);
		r->timestamp = timestamp;
		r->has_timestamp = 1;
	}
}

struct block {
	__u32 ssrc;
	__u8 fraction, lost[3];
	__u32 highest, jitter, last_sr, delay;
};

inline void round_trip(struct trip *own, const struct trip *peer, const struct block *block, __u64 now)
{
	__u64 kept = (__u64)bpf_ntohl(block->delay) * SECOND_NS / 65536;

#pragma unroll
	for (int i = 0; i < 4; i++) {
		__u64 passed = peer->passed_ns[i];
		__u64 rtt = now - passed - kept;
		if (passed && peer->ntp[i] == bpf_ntohl(block->last_sr) && rtt && rtt < RTT_MAX_NS)
			own->rtt_ns = rtt;
	}
}

inline void reported(struct trip *own, const struct trip *peer, const struct block *block, __u64 now)
{
	__u32 lost = (__u32)block->lost[0] << 24 | (__u32)block->lost[1] << 16 | (__u32)block->lost[2] << 8;

	own->lost = (__s32)lost >> 8;
	own->jitter = bpf_ntohl(block->jitter);
	if (peer && block->last_sr)
		round_trip(own, peer, block, now);
}

/* The reports of a compound packet, up to where it is cut or wrong. One step is one header or one block. */
inline void read_reports(struct __sk_buff *skb, const struct packet *p, struct trip *own, const struct trip *peer,
			 __u64 now)
{
	__u32 at = p->payload, all = p->payload + p->length, end = at, blocks = 0;

	for (int step = 0; step < REPORT_STEPS; step++) {
		if (blocks && at + sizeof(struct block) <= end) {
			struct block block;
			if (bpf_skb_load_bytes(skb, at, &block, sizeof block))
				return;
			reported(own, peer, &block, now);
			at += sizeof block;
			blocks--;
			continue;
		}
		blocks = 0;
		at = end;
		__u8 head[4] = {};
		if (at + 4 > all || bpf_skb_load_bytes(skb, at, head, 4) || (head[0] & 0xc0) != 0x80)
			return;
		end = at + 4 + 4 * ((__u32)head[2] << 8 | head[3]);
		if (end > all)
			return;
		if (head[1] == SENDER_REPORT && at + 28 <= end) {
			__u32 ntp[2] = {};
			if (bpf_skb_load_bytes(skb, at + 8, ntp, 8))
				return;
			__u32 slot = own->next++ & 3;
			own->ntp[slot] = bpf_ntohl(ntp[0]) << 16 | bpf_ntohl(ntp[1]) >> 16;
			own->passed_ns[slot] = now;
			at += 28;
			blocks = head[0] & 31;
		} else if (head[1] == RECEIVER_REPORT) {
			at += 8;
			blocks = head[0] & 31;
		}
	}
}
