/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * From a packet that came in to the one that goes out. Checksums go through the kernel's helpers, which know whether
 * a checksum is complete, yet to be filled in, or verified by the hardware; plain arithmetic does not.
 */
#pragma once
#include "packet.h"

#define TOS_EF 0xb8
#define HOPS 64
#define UDP_SOURCE(ip_size) (ETH_HLEN + (ip_size) + offsetof(struct udphdr, source))
#define UDP_CHECK(ip_size) (ETH_HLEN + (ip_size) + offsetof(struct udphdr, check))

struct plan {                 /* where a packet goes: copied out of the maps, then checked to be one word */
	struct endpoint to;
	__u32 local[4];
	struct host nexthop;
	__u32 ifindex;
	__u32 mtu;
	__u16 port;           /* source, network order */
	__u16 hops;
};

inline __u16 fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

inline int ports(struct __sk_buff *skb, const struct packet *p, const struct plan *plan, __u32 at, __u32 check)
{
	__u16 old[2] = {p->from.port, bpf_htons(p->port)}, new[2] = {plan->port, plan->to.port};

	if (bpf_skb_store_bytes(skb, at, new, sizeof new, 0))
		return -1;
	if (!p->check)
		return 0;
	__s64 diff = bpf_csum_diff((void *)old, 4, (void *)new, 4, 0);
	return bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_MARK_MANGLED_0);
}

/* `same` is whether the IP header stays of one family: then its own change is balanced by its own checksum. */
inline int addresses(struct __sk_buff *skb, const struct packet *p, const struct plan *plan, __u32 check)
{
	__u32 old[8] = {}, new[8] = {};

	if (!p->check)
		return 0;
	__builtin_memcpy(old, p->from.address, 16);
	__builtin_memcpy(old + 4, p->to, 16);
	__builtin_memcpy(new, plan->local, 16);
	__builtin_memcpy(new + 4, plan->to.address, 16);
	__s64 diff = bpf_csum_diff(old, sizeof old, new, sizeof new, 0);
	if (plan->to.family == AF_INET6) /* no IP checksum balances the change of a complete one */
		bpf_csum_update(skb, diff);
	return bpf_l4_csum_replace(skb, check, 0, diff, BPF_F_PSEUDO_HDR | BPF_F_MARK_MANGLED_0);
}

inline int rewrite4(struct __sk_buff *skb, const struct packet *p, const struct plan *plan)
{
	struct iphdr *ip = (void *)(long)skb->data + ETH_HLEN;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	__u64 sum = (__u16)~ip->check;
	sum += (__u64)(__u32)~ip->saddr + (__u32)~ip->daddr + (__u16)~bpf_htons(ip->version << 12 | ip->ihl << 8 | ip->tos) +
	       (__u16)~bpf_htons(ip->ttl << 8 | ip->protocol);
	ip->saddr = plan->local[0];
	ip->daddr = plan->to.address[0];
	ip->tos = TOS_EF;
	ip->ttl = plan->hops;
	sum += (__u64)ip->saddr + ip->daddr + bpf_htons(0x4500 | TOS_EF) + bpf_htons(plan->hops << 8 | IPPROTO_UDP);
	ip->check = fold(sum);
	if (addresses(skb, p, plan, UDP_CHECK(sizeof *ip)))
		return -1;
	return ports(skb, p, plan, UDP_SOURCE(sizeof *ip), UDP_CHECK(sizeof *ip));
}

inline void header6(struct ipv6hdr *ip, const struct packet *p, const struct plan *plan)
{
	__builtin_memset(ip, 0, sizeof *ip);
	ip->version = 6;
	ip->priority = TOS_EF >> 4;
	ip->flow_lbl[0] = (TOS_EF & 15) << 4;
	ip->payload_len = bpf_htons(p->length + sizeof(struct udphdr));
	ip->nexthdr = IPPROTO_UDP;
	ip->hop_limit = plan->hops;
	__builtin_memcpy(&ip->saddr, plan->local, 16);
	__builtin_memcpy(&ip->daddr, plan->to.address, 16);
}

inline int rewrite6(struct __sk_buff *skb, const struct packet *p, const struct plan *plan)
{
	struct ipv6hdr *ip = (void *)(long)skb->data + ETH_HLEN;

	if ((void *)(ip + 1) > (void *)(long)skb->data_end)
		return -1;
	__u32 old[2], new[2];
	__builtin_memcpy(old, ip, 8);
	ip->priority = TOS_EF >> 4;
	ip->flow_lbl[0] = (ip->flow_lbl[0] & 15) | (TOS_EF & 15) << 4;
	ip->hop_limit = plan->hops;
	__builtin_memcpy(new, ip, 8);
	__builtin_memcpy(&ip->saddr, plan->local, 16);
	__builtin_memcpy(&ip->daddr, plan->to.address, 16);
	bpf_csum_update(skb, bpf_csum_diff(old, 8, new, 8, 0));
	if (addresses(skb, p, plan, UDP_CHECK(sizeof *ip)))
		return -1;
	return ports(skb, p, plan, UDP_SOURCE(sizeof *ip), UDP_CHECK(sizeof *ip));
}

inline int ether_type(struct __sk_buff *skb, __u16 type)
{
	return bpf_skb_store_bytes(skb, offsetof(struct ethhdr, h_proto), &type, sizeof type, 0);
}

inline int rewrite4to6(struct __sk_buff *skb, const struct packet *p, const struct plan *plan)
{
	struct ipv6hdr ip;

	header6(&ip, p, plan);
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IPV6), 0) || ether_type(skb, bpf_htons(ETH_P_IPV6)) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof ip, 0) || addresses(skb, p, plan, UDP_CHECK(sizeof ip)))
		return -1;
	return ports(skb, p, plan, UDP_SOURCE(sizeof ip), UDP_CHECK(sizeof ip));
}

inline int rewrite6to4(struct __sk_buff *skb, const struct packet *p, const struct plan *plan)
{
	struct iphdr ip;

	__builtin_memset(&ip, 0, sizeof ip);
	ip.version = 4;
	ip.ihl = 5;
	ip.tos = TOS_EF;
	ip.tot_len = bpf_htons(p->length + sizeof(struct udphdr) + sizeof ip);
	ip.frag_off = bpf_htons(0x4000);
	ip.ttl = plan->hops;
	ip.protocol = IPPROTO_UDP;
	ip.saddr = plan->local[0];
	ip.daddr = plan->to.address[0];
	ip.check = fold(bpf_csum_diff(NULL, 0, (void *)&ip, sizeof ip, 0));
	if (bpf_skb_change_proto(skb, bpf_htons(ETH_P_IP), 0) || ether_type(skb, bpf_htons(ETH_P_IP)) ||
	    bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof ip, 0) || addresses(skb, p, plan, UDP_CHECK(sizeof ip)))
		return -1;
	return ports(skb, p, plan, UDP_SOURCE(sizeof ip), UDP_CHECK(sizeof ip));
}

inline int rewrite(struct __sk_buff *skb, const struct packet *p, const struct plan *plan)
{
	if (plan->to.family == AF_INET)
		return p->from.family == AF_INET ? rewrite4(skb, p, plan) : rewrite6to4(skb, p, plan);
	return p->from.family == AF_INET ? rewrite4to6(skb, p, plan) : rewrite6(skb, p, plan);
}

inline int leave(const struct plan *plan)
{
	struct bpf_redir_neigh neigh;

	if (!plan->nexthop.family)
		return bpf_redirect_neigh(plan->ifindex, NULL, 0, 0);
	__builtin_memset(&neigh, 0, sizeof neigh);
	neigh.nh_family = plan->nexthop.family;
	__builtin_memcpy(neigh.ipv6_nh, plan->nexthop.address, 16);
	return bpf_redirect_neigh(plan->ifindex, &neigh, sizeof neigh, 0);
}
