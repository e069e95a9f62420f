/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The relay in the kernel: a classifier on the ingress of every interface that media come in by. It takes the path of
 * a packet that datapath/base.py lists, in that order, for plain RTP and RTCP of installed forwards; all else (no
 * forward, fragments, IP options, STUN, slow forwards, packets longer than the path) goes on to the socket that user
 * space holds on the same port. Types of the UAPI alone: one object for every kernel that has the helpers.
 */
#include "packet.h"
#include "latch.h"
#include "statistics.h"
#include "rewrite.h"

#define PACKET_MAX 2048
#define RTP_MIN 12
#define STUN_MIN 20
#define STUN_COOKIE 0x2112a442
#define RTCP_MIN 8
#define RTCP_FIRST 192
#define RTCP_LAST 223
#define UP_PER_SECOND 50     /* STUN and the like that user space sees of one forward; a flood must not reach it */
#define MTU_UNKNOWN 1280     /* towards a host that the control plane has not looked at yet: IPv6's least */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PLACES);
	__type(key, __u32);
	__type(value, __u64);
} places SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * FORWARDS_DEFAULT);
	__type(key, __u32);
	__type(value, struct forward);
} forwards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, FORWARDS_DEFAULT);
	__type(key, __u32);
	__type(value, struct stream);
} streams SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOCALS_MAX);
	__type(key, struct host);
	__type(value, __u32);
} locals SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct control);
} control SEC(".maps");

struct side {                /* one forward, as one packet sees it */
	__u64 place;
	struct forward *forward;
	struct stream *stream;
};

inline __u64 place_of(__u32 id)
{
	__u64 *place = bpf_map_lookup_elem(&places, &id);

	return place ? *(volatile __u64 *)place : 0;
}

inline int find(struct side *side, __u32 id)
{
	side->place = place_of(id);
	if (!side->place)
		return 0;
	__u32 index = PLACE_INDEX(side->place), buffer = 2 * index + (PLACE_VERSION(side->place) & 1);
	side->forward = bpf_map_lookup_elem(&forwards, &buffer);
	side->stream = bpf_map_lookup_elem(&streams, &index);
	return side->forward && side->stream;
}

/* Twice replaced meanwhile: both buffers were written, what was read may be half of each. */
inline int is_stale(const struct side *side, __u32 id)
{
	__u64 now = place_of(id);

	return now >> 32 != side->place >> 32 || PLACE_VERSION(now) - PLACE_VERSION(side->place) > 1;
}

inline int is_local(const struct packet *p)
{
	struct host host;

	__builtin_memset(&host, 0, sizeof host);
	__builtin_memcpy(host.address, p->to, 16);
	host.family = p->from.family;
	return bpf_map_lookup_elem(&locals, &host) != NULL;
}

inline int refuse(struct stream *stream, enum drop reason)
{
	__sync_fetch_and_add(&stream->drops[reason], 1);
	return DROP;
}

/* Not RTP: user space looks at it (and counts it), as long as there is not too much of it. */
inline int odd(struct stream *stream, __u64 now)
{
	__u32 second = now / SECOND_NS;

	if (stream->up_second != second) {
		stream->up_second = second;
		stream->up_in_second = 0;
	}
	return ++stream->up_in_second <= UP_PER_SECOND ? NEXT : refuse(stream, MALFORMED);
}

inline int over_limit(struct stream *stream, const struct forward *f, __u64 now)
{
	__u32 second = now / SECOND_NS;

	if (stream->second != second) {
		stream->second = second;
		stream->in_second = 0;
	}
	stream->in_second++;
	return f->limit_pps && stream->in_second > f->limit_pps;
}

inline int admit_rtp(struct side *own, const struct packet *p, __u32 ifindex, const struct rtp *rtp, __u64 now)
{
	struct forward *f = own->forward;
	struct latch *latch = &own->stream->latch[0];
	__u32 type = rtp->second & 0x7f;

	if (is_latched(latch, &f->leg[0], &p->from))
		return 1;
	int plausible = p->length == RTP_MIN || f->payload_types[type >> 6] >> (type & 63) & 1;
	return accept(latch, f, &f->leg[0], p, ifindex, rank_of(latch, f, &f->leg[0], &p->from), plausible, rtp, now);
}

/* rtp.py, is_keep_alive: nothing, RTP of no version without a payload, STUN. */
inline int is_keep_alive(const struct packet *p, const struct rtp *head)
{
	if (!p->length)
		return 1;
	if (p->length < RTP_MIN || head->first & 0xc0)
		return 0;
	return p->length == RTP_MIN || (p->length >= STUN_MIN && head->timestamp == bpf_htonl(STUN_COOKIE));
}

/* It tells where a phone is, of the phone's own hosts alone. */
inline void keep_alive(struct side *own, const struct packet *p, __u32 ifindex, __u64 now)
{
	struct forward *f = own->forward;
	struct latch *latch = &own->stream->latch[0];

	if (is_latched(latch, &f->leg[0], &p->from))
		return;
	__u32 rank = rank_of(latch, f, &f->leg[0], &p->from);
	if (rank > ANY)
		accept(latch, f, &f->leg[0], p, ifindex, rank, 1, NULL, now);
}

inline int admit_rtcp(struct side *own, const struct packet *p, __u32 ifindex, __u64 now)
{
	struct forward *f = own->forward;
	__u32 which = f->flags & RTCP_MUX ? 0 : 1;
	struct latch *latch = &own->stream->latch[which], *rtp = &own->stream->latch[0];
	const struct leg *leg = &f->leg[which];

	if (is_latched(latch, leg, &p->from))
		return 1;
	__u32 rank = rank_of(latch, f, leg, &p->from);
	if (rank < FORMER) {
		struct endpoint *source = &current(rtp)->source;
		rank = rtp->epoch == f->leg[0].epoch && source->family == p->from.family &&
				       same_address(source->address, p->from.address)
			       ? HINTED
			       : NONE;
	}
	return accept(latch, f, leg, p, ifindex, rank, 1, NULL, now);
}

inline void count_rtp(struct side *own, const struct packet *p, const struct rtp *rtp, __u64 now)
{
	struct stream *s = own->stream;

	s->packets++;
	s->bytes += p->length;
	s->payload_type = (rtp->second & 0x7f) + 1;
	s->last_ns = now;
	received(&s->reception, own->forward, rtp, now);
	if (!s->first_ns)
		s->first_ns = now;
}

/* Where the peer's packets are sent: to the source that was latched, unless another endpoint was announced since. */
inline void aim(struct plan *plan, struct side *peer, __u32 which)
{
	struct leg *leg = &peer->forward->leg[which];
	struct latch *latch = &peer->stream->latch[which];
	int latched = latch->epoch && latch->aim == leg->aim;

	__builtin_memset(plan, 0, sizeof *plan);
	plan->to = leg->announced;
	if (latched) {
		struct learned *learned = current(latch);
		plan->to = learned->source;
		__builtin_memcpy(plan->local, learned->local, 16);
		plan->ifindex = learned->ifindex;
		plan->mtu = MTU_UNKNOWN;
	}
	if (same_host(&leg->way.to, &plan->to)) {
		if (!latched)
			__builtin_memcpy(plan->local, leg->way.local, 16);
		plan->ifindex = leg->way.ifindex;
		plan->nexthop = leg->way.nexthop;
		plan->mtu = leg->way.mtu;
	}
}

inline int forward(struct __sk_buff *skb, struct packet *p, struct side *own, struct side *peer, __u32 id, int is_rtcp)
{
	__u32 which = is_rtcp && !(peer->forward->flags & RTCP_MUX), peer_id = own->forward->peer;
	struct latch *latch = &peer->stream->latch[which];
	__u32 word = *(volatile __u32 *)&latch->word;
	struct plan plan;

	aim(&plan, peer, which);
	plan.port = bpf_htons((__u16)(peer_id * 2 + which));
	plan.hops = HOPS;
	if (skb->ingress_ifindex == LOOPBACK || skb->ifindex == LOOPBACK) {
		/* A ring of calls on this machine must not turn for ever. */
		if (p->hops <= 1)
			return refuse(own->stream, SEND);
		plan.hops = p->hops - 1;
	}
	__u32 total = p->total;
	if (plan.to.family != p->from.family)
		total = plan.to.family == AF_INET6 ? total + 20 : total - 20;
	if (is_stale(own, id) || is_stale(peer, peer_id) || *(volatile __u32 *)&latch->word != word)
		return refuse(own->stream, SEND);
	if (rewrite(skb, p, &plan))
		return refuse(own->stream, SEND);
	return leave(&plan);
}

/* Whether user space must do it: nothing was counted yet. */
inline int is_for_user_space(const struct packet *p, struct side *peer, int is_rtcp)
{
	__u32 which = is_rtcp && !(peer->forward->flags & RTCP_MUX);
	struct plan plan;

	aim(&plan, peer, which);
	if (peer->forward->flags & SLOW || !plan.ifindex || !plan.to.family)
		return 1;
	if (plan.to.family == AF_INET6 && p->from.family == AF_INET)
		return !p->check || p->total + 20 > plan.mtu; /* IPv6 wants a checksum: a socket makes one */
	return p->total > plan.mtu;
}

inline int handle(struct __sk_buff *skb, struct packet *p, struct side *own, __u32 id)
{
	struct forward *f = own->forward;
	struct stream *s = own->stream;
	__u64 now = bpf_ktime_get_ns();
	struct side peer = {};
	struct rtp rtp = {};

	s->heard_ns = now;
	if (p->length >= RTP_MIN ? bpf_skb_load_bytes(skb, p->payload, &rtp, RTP_MIN)
				 : p->length < RTCP_MIN || bpf_skb_load_bytes(skb, p->payload, &rtp, RTCP_MIN)) {
		if (!p->length && !(p->port & 1))
			keep_alive(own, p, skb->ifindex, now);
		return odd(s, now);
	}
	int rtcp = rtp.second >= RTCP_FIRST && rtp.second <= RTCP_LAST;
	if ((rtp.first & 0xc0) != 0x80 || p->length >= PACKET_MAX ||
	    (rtcp ? !(p->port & 1) && !(f->flags & RTCP_MUX) : p->port & 1 || p->length < RTP_MIN)) {
		if (!(p->port & 1) && is_keep_alive(p, &rtp))
			keep_alive(own, p, skb->ifindex, now);
		return odd(s, now);
	}
	int has_peer = find(&peer, f->peer);
	if (has_peer && is_for_user_space(p, &peer, rtcp))
		return NEXT;
	if (!(rtcp ? admit_rtcp(own, p, skb->ifindex, now) : admit_rtp(own, p, skb->ifindex, &rtp, now)))
		return refuse(s, SOURCE);
	if (over_limit(s, f, now))
		return refuse(s, RATE);
	if (rtcp) {
		s->rtcp_packets++;
		s->rtcp_bytes += p->length;
		s->last_rtcp_ns = now;
		read_reports(skb, p, &s->trip, has_peer ? &peer.stream->trip : NULL, now);
	} else {
		count_rtp(own, p, &rtp, now);
		if (!(f->flags & RECEIVE) || (has_peer && !(peer.forward->flags & SENDTO)))
			return refuse(s, DIRECTION);
	}
	if (!has_peer)
		return refuse(s, NO_DESTINATION);
	if (rtcp && peer.forward->flags & NO_RTCP)
		return refuse(s, DIRECTION);
	return forward(skb, p, own, &peer, id, rtcp);
}

SEC("tc")
int relay(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct packet packet;
	struct side own = {};

	if (!parse(skb, &packet) || !find(&own, packet.port >> 1) || own.forward->flags & SLOW || !is_local(&packet))
		return NEXT;
	struct control *c = bpf_map_lookup_elem(&control, &zero);
	if (!c || bpf_ktime_get_ns() > c->alive_until_ns)
		return NEXT;
	return handle(skb, &packet, &own, packet.port >> 1);
}

/* The layout as this object has it: the loader compares it with its own. */
const __u32 layout[] SEC("abi.layout") = {
	ABI_VERSION, sizeof(struct forward), sizeof(struct stream), sizeof(struct control), sizeof(struct latch),
	offsetof(struct stream, reception), offsetof(struct stream, trip), offsetof(struct stream, latch),
	offsetof(struct forward, leg), sizeof(struct leg),
};
const char LICENSE[] SEC("license") = "Dual MIT/GPL";
