/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The maps' values, shared with pbx_media_relay/ebpf/abi.py, which mirrors them field by field. The control plane
 * writes `places` and `forwards`, this program writes `streams`: no value has two writers. A change of layout is a
 * new number in ABI_VERSION, which is part of the pin path.
 */
#pragma once
#include <linux/types.h>

#define ABI_VERSION 1
#define PLACES 32768           /* forward ids: RTP port / 2 */
#define FORWARDS_DEFAULT 8192  /* the control plane sets the real size when it makes the maps */
#define LOCALS_MAX 512

enum drop { SOURCE, MALFORMED, DIRECTION, NO_DESTINATION, RATE, SEND, DROPS }; /* forward.py, DropReason */

enum flags {
	RTCP_MUX = 1,
	RECEIVE = 2,  /* RTP from this endpoint is relayed */
	SENDTO = 4,   /* RTP is relayed to this endpoint */
	SLOW = 8,     /* everything of this forward goes to user space */
	NO_RTCP = 16, /* RTCP is kept from this endpoint */
};

struct host {
	__u32 address[4]; /* IPv4 in the first word */
	__u32 family;     /* AF_INET, AF_INET6; 0: none */
};

struct endpoint {
	__u32 address[4];
	__u16 port;       /* network order, as the address */
	__u16 family;
};

struct way {                  /* how the control plane says that a host is reached */
	struct host to;
	struct host nexthop;  /* family 0: let the kernel look it up */
	__u32 local[4];       /* source address */
	__u32 ifindex;        /* 0: not reachable, user space is to say so */
	__u32 mtu;
};

struct leg {                  /* RTP or RTCP of one forward */
	struct endpoint announced;
	__u32 epoch;          /* raised whenever the latch opens */
	__u32 aim;            /* raised whenever the announced endpoint changes */
	struct way way;
};

struct forward {
	__u64 until_ns;
	__u64 payload_types[2];
	__u32 flags;
	__u32 peer;
	__u32 clock_rate;
	__u32 limit_pps;
	__u32 pauses;         /* raised whenever RECEIVE is taken away */
	__u32 generation;     /* the control plane's memory */
	struct host hint;
	struct leg leg[2];    /* RTP, RTCP */
	__u32 pad;
};

struct learned {
	struct endpoint source;
	__u32 local[4];       /* the address that it sends to */
	__u32 ifindex;        /* where its packets come in */
};

struct latch {
	__u32 word;           /* low bit: which `learned` counts; it changes with every latch */
	__u32 lock;
	__u32 epoch;          /* the leg's when it was latched; 0: never */
	__u32 aim;
	__u32 rank;
	__u32 candidate_epoch;
	__u64 until_ns;
	struct learned learned[2];
	struct endpoint candidate;
	__u32 candidate_ssrc;
	__u32 candidate_sequence;
	__u32 pad;
};

struct reception {
	__s64 lost_before, max, base;
	__u64 received, seen;
	__u64 reordered, duplicate;
	__u64 gap_last_ns, gap_max_ns;
	__u32 ssrc, ssrc_changes;
	__u32 has_ssrc, bad;  /* bad: sequence + 1; 0: none */
	__u32 transit, has_transit;
	__u32 timestamp, has_timestamp;
	__u32 jitter_q4, jitter_measured;
	__u32 pauses, pad;
};

struct trip {
	__u64 passed_ns[4];
	__u32 ntp[4];
	__u64 rtt_ns;
	__u32 next, pad;
	__s32 lost;
	__u32 jitter;
};

struct stream {
	__u64 heard_ns;
	__u64 packets, bytes, rtcp_packets, rtcp_bytes;
	__u64 first_ns, last_ns, last_rtcp_ns;
	__u64 drops[DROPS];
	__u32 second, in_second;
	__u32 up_second, up_in_second;
	__u32 payload_type, pad; /* + 1; 0: none */
	struct reception reception;
	struct trip trip;
	struct latch latch[2];
};

struct control {
	__u64 alive_until_ns; /* past this moment nothing is relayed here any more */
	__u64 passed_up;
};

/* A place: which buffer of which forward counts. 0: no forward. */
#define PLACE_INDEX(place) ((__u32)((place) >> 32) - 1)
#define PLACE_VERSION(place) ((__u32)(place))
