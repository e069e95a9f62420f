/* The packet path of one stream; see stream.h. Numbers and their reasons stand in the Python files named there. */
#include "stream.h"

#include <stdatomic.h>
#include <string.h>

enum {
	RTP_MIN = 12, RTCP_MIN = 8, RTCP_FIRST = 192, RTCP_LAST = 223,
	SENDER_REPORT = 200, RECEIVER_REPORT = 201, SENDER_INFO = 20, REPORT_BLOCK = 24,
	STUN_MIN = 20, STUN_COOKIE = 0x2112a442, SEQUENTIAL_STEP_MAX = 3, MAX_DROPOUT = 3000, MAX_MISORDER = 100, SEEN_WINDOW = 64, JUMP_S = 3,
};
static const uint64_t SECOND_NS = 1000000000, SETTLE_NS = 3000000000, RTT_MAX_NS = 10000000000;
static const uint64_t LATCH_WINDOW_NS = 30000000000, STRAGGLER_NS = 1000000000;

static uint16_t get16(const uint8_t *at) { return (uint16_t)(at[0] << 8 | at[1]); }
static uint32_t get32(const uint8_t *at) { return (uint32_t)get16(at) << 16 | get16(at + 2); }

static bool same_host(const uint8_t *one, const uint8_t *other) { return !memcmp(one, other, 16); }
static bool same(const pr_endpoint *one, const pr_endpoint *other)
{
	return one->port == other->port && same_host(one->addr, other->addr);
}

/* ---- latching.py ---- */

static void latch_open(struct latch *latch, const pr_endpoint *announced, uint64_t until_ns)
{
	static const pr_endpoint nobody;
	latch->announced = *announced;
	latch->until_ns = until_ns;
	latch->source = latch->candidate = nobody;
	latch->rank = RANK_NONE;
}

static void latch_update(struct latch *latch, const pr_endpoint *announced, const pr_forward *old,
			 const pr_forward *new)
{
	if (new->fixed && !latch->fixed)
		latch->destination = *announced;
	latch->fixed = new->fixed;
	if (!same(announced, &latch->announced)) {
		latch->destination = *announced;
		latch->moved = true;
	} else if (old->generation == new->generation) {
		if (!latch->source.port)
			latch->until_ns = new->latch_until_ns;
		return;
	}
	latch_open(latch, announced, new->latch_until_ns);
}

static enum rank rank_of(const struct latch *latch, const pr_forward *forward, const pr_endpoint *source)
{
	static const uint8_t none[16];
	bool hinted = !same_host(forward->hint_host, none);
	if (same(source, &latch->announced))
		return RANK_EXACT;
	if (same_host(source->addr, latch->announced.addr) || (hinted && same_host(source->addr, forward->hint_host)))
		return !latch->source.port && latch->last_source.port && same(source, &latch->last_source) ? RANK_FORMER
													   : RANK_HINTED;
	return hinted ? RANK_NONE : RANK_ANY;
}

static bool may_latch(const struct latch *latch, enum rank rank, bool plausible, uint64_t now_ns)
{
	if (rank == RANK_EXACT)
		return true;
	if (rank == RANK_FORMER && latch->moved && now_ns + (LATCH_WINDOW_NS - STRAGGLER_NS) < latch->until_ns)
		return false;
	return rank > latch->rank && plausible && now_ns < latch->until_ns;
}

static void latch_to(struct latch *latch, const pr_endpoint *source, enum rank rank, uint64_t now_ns)
{
	if (rank == RANK_EXACT)
		latch->until_ns = 0;
	else if (!latch->source.port && now_ns + SETTLE_NS < latch->until_ns)
		latch->until_ns = now_ns + SETTLE_NS;
	latch->source = latch->last_source = *source;
	latch->moved = false;
	if (!latch->fixed)
		latch->destination = *source;
	latch->rank = (uint8_t)rank;
}

static bool is_second(struct latch *latch, const pr_endpoint *source, uint32_t ssrc, uint16_t sequence)
{
	bool again = same(&latch->candidate, source) && latch->candidate_ssrc == ssrc;
	unsigned step = (uint16_t)(sequence - latch->candidate_sequence);
	latch->candidate = *source;
	latch->candidate_ssrc = ssrc;
	latch->candidate_sequence = sequence;
	return again && step >= 1 && step <= SEQUENTIAL_STEP_MAX;
}

static bool accept_rtp(struct stream *stream, const struct packet *packet)
{
	struct latch *latch = &stream->rtp;
	if (latch->source.port && same(&packet->source, &latch->source))
		return true;
	unsigned type = packet->data[1] & 0x7f;
	bool plausible = packet->length == RTP_MIN || stream->forward.payload_types[type >> 6] >> (type & 63) & 1;
	enum rank rank = rank_of(latch, &stream->forward, &packet->source);
	if (!may_latch(latch, rank, plausible, packet->now_ns))
		return false;
	if (rank == RANK_ANY && !is_second(latch, &packet->source, get32(packet->data + 8), get16(packet->data + 2)))
		return false;
	latch_to(latch, &packet->source, rank, packet->now_ns);
	return true;
}

static bool accept_rtcp(struct stream *stream, const struct packet *packet)
{
	struct latch *latch = stream->forward.rtcp_mux ? &stream->rtp : &stream->rtcp;
	const pr_endpoint *rtp = &stream->rtp.source;
	if (latch->source.port && same(&packet->source, &latch->source))
		return true;
	enum rank rank = rank_of(latch, &stream->forward, &packet->source);
	if (rank < RANK_FORMER)
		rank = rtp->port && same_host(packet->source.addr, rtp->addr) ? RANK_HINTED : RANK_NONE;
	if (!may_latch(latch, rank, true, packet->now_ns))
		return false;
	latch_to(latch, &packet->source, rank, packet->now_ns);
	return true;
}

static bool is_keep_alive(const struct packet *packet)
{
	const uint8_t *data = packet->data;
	if (!packet->length)
		return true;
	if (data[0] & 0xc0)
		return false;
	return packet->length == RTP_MIN || (packet->length >= STUN_MIN && get32(data + 4) == STUN_COOKIE);
}

static void keep_alive(struct stream *stream, const struct packet *packet)
{
	struct latch *latch = &stream->rtp;
	enum rank rank = rank_of(latch, &stream->forward, &packet->source);
	if (latch->source.port && same(&packet->source, &latch->source))
		return;
	if (rank > RANK_ANY && may_latch(latch, rank, true, packet->now_ns)) {
		latch_to(latch, &packet->source, rank, packet->now_ns);
		stream->counters.source = latch->last_source;
	}
}

/* ---- reception.py ---- */

static int64_t lost_of(const struct reception *r) { return r->lost_before + r->max - r->base + 1 - r->received; }

static void sequence_restart(struct reception *r, uint16_t sequence)
{
	r->lost_before = lost_of(r);
	r->max = r->base = sequence;
	r->received = 1;
	r->seen = 1;
	r->bad = -1;
	r->transit = r->timestamp = -1;
}

static void count_late(struct reception *r, pr_counters *counters, unsigned behind)
{
	if (behind < SEEN_WINDOW) {
		if (r->seen >> behind & 1) {
			counters->duplicate++;
			return;
		}
		r->seen |= (uint64_t)1 << behind;
	}
	counters->reordered++;
	r->received++;
	if (r->max - behind < r->base)
		r->base = r->max - behind;
}

static bool count_sequence(struct reception *r, pr_counters *counters, uint16_t sequence)
{
	unsigned step = (uint16_t)(sequence - (uint64_t)r->max);
	if (step == 0) {
		counters->duplicate++;
		return false;
	}
	if (step < MAX_DROPOUT) {
		r->seen = step < SEEN_WINDOW ? r->seen << step | 1 : 1;
		r->max += step;
		r->received++;
		r->bad = -1;
		return true;
	}
	if (step >= 0x10000 - MAX_MISORDER) {
		count_late(r, counters, 0x10000 - step);
		return false;
	}
	if (sequence == r->bad) {
		sequence_restart(r, sequence);
		return true;
	}
	r->bad = (uint16_t)(sequence + 1);
	return false;
}

static void measure_jitter(struct reception *r, pr_counters *counters, uint32_t timestamp, uint32_t rate,
			   uint64_t now_ns)
{
	uint64_t arrival = now_ns / SECOND_NS * rate + now_ns % SECOND_NS * rate / SECOND_NS;
	uint32_t transit = (uint32_t)arrival - timestamp;
	int64_t previous = r->transit;
	r->transit = transit;
	if (previous < 0)
		return;
	uint64_t change = (uint32_t)(transit - (uint32_t)previous);
	if (change >= 0x80000000)
		change = 0x100000000 - change;
	if (change > (uint64_t)JUMP_S * rate)
		return;
	counters->jitter_measured = 1;
	counters->jitter_q4 += (int64_t)change - ((counters->jitter_q4 + 8) >> 4);
}

static void count_rtp(struct stream *stream, const struct packet *packet)
{
	struct reception *r = &stream->reception;
	pr_counters *counters = &stream->counters;
	uint16_t sequence = get16(packet->data + 2);
	uint32_t timestamp = get32(packet->data + 4), ssrc = get32(packet->data + 8);
	bool in_order = true;

	if (r->last_ns && packet->now_ns - r->last_ns > counters->gap_max_ns)
		counters->gap_max_ns = packet->now_ns - r->last_ns;
	r->last_ns = packet->now_ns;
	if (r->ssrc != ssrc) {
		counters->ssrc_changes += r->ssrc >= 0;
		r->ssrc = ssrc;
		sequence_restart(r, sequence);
	} else {
		in_order = count_sequence(r, counters, sequence);
	}
	if (stream->forward.clock_rate_hz && in_order && r->timestamp != timestamp) {
		measure_jitter(r, counters, timestamp, stream->forward.clock_rate_hz, packet->now_ns);
		r->timestamp = timestamp;
	}
	counters->lost = lost_of(r);
	counters->ssrc = ssrc;
	counters->payload_type = packet->data[1] & 0x7f;
}

/* ---- roundtrip.py ---- */

static void remember_sender_report(struct stream *stream, uint32_t ntp_middle, uint64_t now_ns)
{
	if (stream->sent_count == SR_REMEMBERED)
		memmove(stream->sent, stream->sent + 1, sizeof stream->sent - sizeof stream->sent[0]);
	else
		stream->sent_count++;
	stream->sent[stream->sent_count - 1] = (struct sent_report){now_ns, ntp_middle};
}

static void read_block(struct stream *stream, const struct stream *peer, const uint8_t *block, uint64_t now_ns)
{
	uint32_t lost = get32(block + 4) & 0xffffff, last_sr = get32(block + 16);
	uint64_t kept_ns = (uint64_t)get32(block + 20) * SECOND_NS / 65536;
	stream->counters.reported_lost = lost & 0x800000 ? (int64_t)lost - 0x1000000 : (int64_t)lost;
	stream->counters.reported_jitter = get32(block + 12);
	if (!peer || !last_sr)
		return;
	for (unsigned i = 0; i < peer->sent_count; i++) {
		uint64_t since_ns = now_ns - peer->sent[i].passed_ns;
		if (peer->sent[i].ntp_middle == last_sr && since_ns > kept_ns && since_ns - kept_ns < RTT_MAX_NS)
			stream->counters.rtt_ns = since_ns - kept_ns;
	}
}

static void read_report(struct stream *stream, const struct stream *peer, const uint8_t *at, size_t length,
			uint64_t now_ns)
{
	size_t body = 8, blocks = at[0] & 31;
	if (at[1] == SENDER_REPORT && body + SENDER_INFO <= length) {
		remember_sender_report(stream, (uint32_t)get16(at + 10) << 16 | get16(at + 12), now_ns);
		body += SENDER_INFO;
	} else if (at[1] != RECEIVER_REPORT) {
		return;
	}
	for (; blocks && body + REPORT_BLOCK <= length; blocks--, body += REPORT_BLOCK)
		read_block(stream, peer, at + body, now_ns);
}

static void read_compound(struct stream *stream, const struct stream *peer, const struct packet *packet)
{
	const uint8_t *data = packet->data;
	for (size_t at = 0; at + 4 <= packet->length && (data[at] & 0xc0) == 0x80;) {
		size_t length = 4 + 4 * (size_t)get16(data + at + 2);
		if (length > packet->length - at)
			return;
		read_report(stream, peer, data + at, length, packet->now_ns);
		at += length;
	}
}

/* ---- datapath/python.py ---- */

static bool over_limit(struct stream *stream, uint64_t now_ns)
{
	uint64_t second = now_ns / SECOND_NS, limit = stream->forward.limit_pps;
	if (second != stream->window) {
		stream->window = second;
		stream->window_packets = 0;
	}
	return limit && ++stream->window_packets > limit;
}

static int receive_rtp(struct stream *stream, struct stream *peer, const struct packet *packet, struct onward *onward)
{
	pr_counters *counters = &stream->counters;
	if (!accept_rtp(stream, packet))
		return DROP_SOURCE;
	if (over_limit(stream, packet->now_ns))
		return DROP_RATE;
	counters->packets++;
	counters->bytes += packet->length;
	counters->last_packet_ns = packet->now_ns;
	counters->source = stream->rtp.last_source;
	count_rtp(stream, packet);
	if (!counters->first_packet_ns)
		counters->first_packet_ns = packet->now_ns;
	onward->first = !stream->told;
	onward->tap = stream->forward.tap;
	if (!stream->forward.receive || (peer && !peer->forward.send))
		return DROP_DIRECTION;
	if (!peer)
		return DROP_NO_DESTINATION;
	onward->to = &peer->rtp.destination;
	onward->port = peer->forward.id * 2;
	return -1;
}

static int receive_rtcp(struct stream *stream, struct stream *peer, const struct packet *packet,
			struct onward *onward)
{
	pr_counters *counters = &stream->counters;
	if (!accept_rtcp(stream, packet))
		return DROP_SOURCE;
	if (over_limit(stream, packet->now_ns))
		return DROP_RATE;
	counters->rtcp_packets++;
	counters->rtcp_bytes += packet->length;
	counters->last_rtcp_ns = packet->now_ns;
	counters->source = stream->rtp.last_source;
	counters->source_rtcp = stream->rtcp.last_source;
	read_compound(stream, peer, packet);
	if (!peer)
		return DROP_NO_DESTINATION;
	if (peer->forward.no_rtcp)
		return DROP_DIRECTION;
	onward->to = peer->forward.rtcp_mux ? &peer->rtp.destination : &peer->rtcp.destination;
	onward->port = peer->forward.id * 2 + !peer->forward.rtcp_mux;
	return -1;
}

static int receive(struct stream *stream, struct stream *peer, const struct packet *packet, struct onward *onward)
{
	const uint8_t *data = packet->data;
	if (packet->length < PACKET_MAX && !packet->rtcp_port && is_keep_alive(packet))
		keep_alive(stream, packet);
	if (packet->length < RTCP_MIN || packet->length >= PACKET_MAX || (data[0] & 0xc0) != 0x80)
		return DROP_MALFORMED;
	bool rtcp = data[1] >= RTCP_FIRST && data[1] <= RTCP_LAST;
	if (rtcp && (packet->rtcp_port || stream->forward.rtcp_mux))
		return receive_rtcp(stream, peer, packet, onward);
	if (!rtcp && packet->length >= RTP_MIN && !packet->rtcp_port)
		return receive_rtp(stream, peer, packet, onward);
	return DROP_MALFORMED;
}

/* Only the one thread that holds the slot writes; readers see an odd version while it does. */
static void write_begin(struct stream *stream)
{
	__atomic_store_n(&stream->version, stream->version + 1, __ATOMIC_RELAXED);
	atomic_thread_fence(memory_order_release);
}

static void write_end(struct stream *stream)
{
	__atomic_store_n(&stream->version, stream->version + 1, __ATOMIC_RELEASE);
}

int stream_receive(struct stream *stream, struct stream *peer, const struct packet *packet, struct onward *onward)
{
	*onward = (struct onward){0};
	write_begin(stream);
	int refused = receive(stream, peer, packet, onward);
	if (refused >= 0)
		stream->counters.drops[refused]++;
	write_end(stream);
	return refused;
}

void stream_drop(struct stream *stream, enum drop reason)
{
	write_begin(stream);
	stream->counters.drops[reason]++;
	write_end(stream);
}

void stream_read(const struct stream *stream, pr_counters *out)
{
	uint32_t before, after;
	do {
		before = __atomic_load_n(&stream->version, __ATOMIC_ACQUIRE);
		memcpy(out, &stream->counters, sizeof *out);
		atomic_thread_fence(memory_order_acquire);
		after = __atomic_load_n(&stream->version, __ATOMIC_RELAXED);
	} while (before != after || before & 1);
}

static void stream_begin(struct stream *stream, const pr_forward *forward)
{
	write_begin(stream);
	memset((char *)stream + sizeof stream->version, 0, sizeof *stream - sizeof stream->version);
	stream->counters.payload_type = -1;
	stream->reception = (struct reception){.ssrc = -1, .base = 1, .bad = -1, .timestamp = -1, .transit = -1};
	latch_open(&stream->rtp, &forward->rtp, forward->latch_until_ns);
	latch_open(&stream->rtcp, &forward->rtcp, forward->latch_until_ns);
	stream->rtp.destination = forward->rtp;
	stream->rtcp.destination = forward->rtcp;
	stream->rtp.fixed = stream->rtcp.fixed = forward->fixed;
	write_end(stream);
}

void stream_install(struct stream *stream, const pr_forward *forward)
{
	if (!stream->installed) {
		stream_begin(stream, forward);
	} else {
		if (stream->forward.receive && !forward->receive) {
			stream->reception.last_ns = 0;
			stream->reception.transit = -1;
		}
		latch_update(&stream->rtp, &forward->rtp, &stream->forward, forward);
		latch_update(&stream->rtcp, &forward->rtcp, &stream->forward, forward);
	}
	stream->forward = *forward;
	stream->installed = true;
}
