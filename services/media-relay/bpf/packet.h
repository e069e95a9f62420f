/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* What a frame says: who sent it to whom, and where its payload is. Whatever is unusual is not for this program. */
#pragma once
#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

#define inline static __attribute__((always_inline)) inline
#define AF_INET 2
#define AF_INET6 10
#define NEXT (-1) /* TCX_NEXT, and TC_ACT_UNSPEC of clsact */
#define DROP 2    /* TCX_DROP, TC_ACT_SHOT */
#define LOOPBACK 1 /* the kernel's LOOPBACK_IFINDEX in every network namespace */
#define FRAGMENT 0x3fff

struct packet {
	struct endpoint from;
	__u32 to[4];
	__u16 port;     /* destination, host order */
	__u16 check;    /* UDP's */
	__u32 hops;
	__u32 payload;  /* offset */
	__u32 length;   /* of the payload */
	__u32 total;    /* IP header and all */
};

struct rtp {
	__u8 first, second;
	__u16 sequence;
	__u32 timestamp, ssrc;
};

inline int parse4(struct packet *p, void *data, void *end)
{
	struct iphdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || ip->version != 4 || ip->ihl != 5 || ip->protocol != IPPROTO_UDP ||
	    ip->frag_off & bpf_htons(FRAGMENT))
		return 0;
	p->total = bpf_ntohs(ip->tot_len);
	p->hops = ip->ttl;
	p->from.family = AF_INET;
	p->from.address[0] = ip->saddr;
	p->to[0] = ip->daddr;
	p->from.port = udp->source;
	p->port = bpf_ntohs(udp->dest);
	p->check = udp->check;
	p->payload = ETH_HLEN + sizeof *ip + sizeof *udp;
	p->length = bpf_ntohs(udp->len);
	return p->length >= sizeof *udp && p->total == sizeof *ip + p->length;
}

inline int parse6(struct packet *p, void *data, void *end)
{
	struct ipv6hdr *ip = data + ETH_HLEN;
	struct udphdr *udp = (void *)(ip + 1);

	if ((void *)(udp + 1) > end || ip->version != 6 || ip->nexthdr != IPPROTO_UDP)
		return 0;
	p->total = sizeof *ip + bpf_ntohs(ip->payload_len);
	p->hops = ip->hop_limit;
	p->from.family = AF_INET6;
	__builtin_memcpy(p->from.address, &ip->saddr, 16);
	__builtin_memcpy(p->to, &ip->daddr, 16);
	p->from.port = udp->source;
	p->port = bpf_ntohs(udp->dest);
	p->check = udp->check;
	p->payload = ETH_HLEN + sizeof *ip + sizeof *udp;
	p->length = bpf_ntohs(udp->len);
	/* A UDP checksum of 0 is not allowed in IPv6 (RFC 8200 section 8.1): the stack drops it. */
	return p->check && p->length >= sizeof *udp && p->total == sizeof *ip + p->length;
}

/* Whole UDP packets in plain headers; anything else is the stack's. */
inline int parse(struct __sk_buff *skb, struct packet *p)
{
	__u32 headers = ETH_HLEN + sizeof(struct udphdr);
	int v4 = skb->protocol == bpf_htons(ETH_P_IP);

	__builtin_memset(p, 0, sizeof *p);
	if ((!v4 && skb->protocol != bpf_htons(ETH_P_IPV6)) || skb->vlan_present || skb->gso_segs > 1)
		return 0;
	headers += v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	if ((void *)(long)skb->data + headers > (void *)(long)skb->data_end && bpf_skb_pull_data(skb, headers))
		return 0;
	void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
	if (!(v4 ? parse4(p, data, end) : parse6(p, data, end)) || skb->len < ETH_HLEN + p->total)
		return 0;
	p->length -= sizeof(struct udphdr);
	return 1;
}

inline int same_address(const __u32 *a, const __u32 *b)
{
	return a[0] == b[0] && a[1] == b[1] && a[2] == b[2] && a[3] == b[3];
}

inline int same_endpoint(const struct endpoint *a, const struct endpoint *b)
{
	return same_address(a->address, b->address) && a->port == b->port && a->family == b->family;
}
