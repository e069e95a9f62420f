/*
 * One forward installed and what was counted of it: the packet path without a socket, a clock or a lock. It does
 * exactly what latching.py, reception.py, roundtrip.py and datapath/python.py do; those are the definition.
 */
#ifndef PBX_STREAM_H
#define PBX_STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"

enum {
	PACKET_MAX = 2048, /* as in datapath/python.py: a packet that fills it was cut */
	SR_REMEMBERED = 4,
};

enum drop { DROP_SOURCE, DROP_MALFORMED, DROP_DIRECTION, DROP_NO_DESTINATION, DROP_RATE, DROP_SEND };

enum rank { RANK_NONE, RANK_ANY, RANK_FORMER, RANK_HINTED, RANK_EXACT };

struct latch {
	pr_endpoint announced, destination, source, last_source, candidate;
	uint64_t until_ns;
	uint32_t candidate_ssrc;
	uint16_t candidate_sequence;
	uint8_t rank;
	bool moved;        /* last_source was latched for another announced endpoint */
	bool fixed;        /* what is sent goes where it was announced */
};

struct reception {
	int64_t ssrc;      /* -1: nothing came */
	int64_t max, base, received, lost_before;
	int64_t timestamp; /* of the newest packet; -1: none */
	int64_t transit;   /* -1: none */
	int32_t bad;       /* sequence that proves a restart; -1: none */
	uint64_t seen;     /* bit n: max - n came */
	uint64_t last_ns;  /* 0 where a gap must not be counted */
};

struct sent_report {
	uint64_t passed_ns;
	uint32_t ntp_middle;
};

struct stream {
	uint32_t version;  /* odd while `counters` is being written: readers try again */
	bool installed, told;
	pr_forward forward;
	struct latch rtp, rtcp;
	struct reception reception;
	struct sent_report sent[SR_REMEMBERED];
	unsigned sent_count;
	uint64_t window, window_packets;
	pr_counters counters;
};

struct packet {
	const uint8_t *data;
	size_t length;
	pr_endpoint source;
	uint64_t now_ns;
	bool rtcp_port;
};

/* Where an accepted packet goes. */
struct onward {
	const pr_endpoint *to;
	uint32_t port;     /* local port that it leaves from */
	bool first;        /* the forward's first RTP packet that was not told yet */
	bool tap;          /* a copy is wanted */
};

void stream_install(struct stream *stream, const pr_forward *forward);
/* -1: send it as `onward` says; else the drop reason, already counted. `peer` may be NULL. */
int stream_receive(struct stream *stream, struct stream *peer, const struct packet *packet, struct onward *onward);
void stream_drop(struct stream *stream, enum drop reason);
/* A consistent copy of the counters, while another thread writes. */
void stream_read(const struct stream *stream, pr_counters *out);

#endif
