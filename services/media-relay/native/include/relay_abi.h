/*
 * The native relay as Python sees it: every struct and function that crosses. cffi reads this file as it is, so it
 * holds declarations alone (no preprocessor lines); C sources include it through relay.h.
 *
 * Times are CLOCK_MONOTONIC in nanoseconds. Addresses are 16 octets in network order, IPv4 as ::ffff:a.b.c.d.
 */

typedef struct {
	uint8_t addr[16];
	uint16_t port;     /* host order; 0: no endpoint */
	uint16_t reserved;
} pr_endpoint;

/* One side of one medium: the fields of forward.py, in its words. */
typedef struct {
	uint32_t id;              /* RTP port / 2 */
	uint32_t peer;            /* of the same slot */
	pr_endpoint rtp, rtcp;    /* announced */
	uint8_t hint_host[16];    /* all zero: none */
	uint64_t payload_types[2];/* bit set, lower 64 types first */
	uint64_t latch_until_ns;
	uint64_t generation;
	uint32_t clock_rate_hz;
	uint32_t limit_pps;
	uint8_t rtcp_mux, receive, send, tap, no_rtcp, fixed;
	uint16_t reserved;
} pr_forward;

/* What was counted: the fields of datapath/base.py's Counters. */
typedef struct {
	uint64_t packets, bytes, rtcp_packets, rtcp_bytes;
	int64_t lost;
	uint64_t reordered, duplicate;
	int64_t jitter_q4;
	uint64_t gap_max_ns, first_packet_ns, last_packet_ns, last_rtcp_ns;
	uint64_t ssrc_changes, rtt_ns;
	uint64_t drops[6];        /* by DropReason */
	int64_t reported_lost;
	uint32_t reported_jitter;
	uint32_t ssrc;
	int32_t payload_type;     /* -1: none */
	uint32_t jitter_measured;
	pr_endpoint source, source_rtcp;
} pr_counters;

/* Told by a worker: the first packet of a forward, or a copy of a tapped one (length > 0). */
typedef struct {
	uint64_t at_ns;
	uint32_t forward;
	uint32_t length;
	pr_endpoint source;
	uint8_t packet[2048];
} pr_event;

typedef struct {
	pr_endpoint bind[2];      /* local addresses, one of a family each; port 1 where there is one, else 0 */
	int32_t cores[64];        /* a thread is pinned to each */
	uint32_t core_count;
	uint32_t steer;           /* 1: try to end all ports in one socket a thread (sk_lookup) */
} pr_options;

typedef struct pr_relay pr_relay;

pr_relay *pr_open(const pr_options *options);                  /* NULL: see errno */
void pr_close(pr_relay *relay);
int pr_event_fd(const pr_relay *relay);                        /* readable when pr_next may answer something */
int pr_next(pr_relay *relay, pr_event *event);                 /* 1: filled in */
void pr_woken(pr_relay *relay);                                /* call once before a round of pr_next */
int pr_bind(pr_relay *relay, uint32_t slot_port, uint32_t *refused); /* 0, or -errno and the port refused */
void pr_unbind(pr_relay *relay, uint32_t slot_port);
uint64_t pr_last_heard_ns(const pr_relay *relay, uint32_t slot_port);
int pr_upsert(pr_relay *relay, const pr_forward *forward);     /* 0 or -EINVAL */
int pr_remove(pr_relay *relay, uint32_t id, pr_counters *last);/* 1: there was one */
void pr_read(const pr_relay *relay, const uint32_t *ids, uint32_t count, pr_counters *out, uint8_t *found);
uint32_t pr_realtime(const pr_relay *relay);                   /* threads that run under SCHED_FIFO */
int pr_steered(const pr_relay *relay);                         /* 0: one socket a thread takes all ports; else why not */
uint64_t pr_taps_lost(const pr_relay *relay);                  /* copies that found the ring full */
uint32_t pr_size(uint32_t which);                              /* sizeof: 0 endpoint 1 forward 2 counters 3 event */
