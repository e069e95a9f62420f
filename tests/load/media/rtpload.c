/*
 * RTP load and sink for one relay: G.711 packets of 20 ms for many calls, sent and seen again as Ethernet frames.
 *
 *   rtpload LEGS PPS SECONDS CPU      (PPS 0: flood, as fast as this core can)
 *
 * LEGS: one line per leg, legs 2k and 2k+1 are the two sides of call k: what one sends must arrive at the other.
 *   netns device own_mac relay_mac local_ip local_port relay_ip relay_port
 *
 * AF_PACKET on both sides, so that this core can load a relay on another one to its limit: sendmmsg past the queue
 * discipline, a TPACKET_V3 ring to receive. The payload carries leg, number and send time; latency ends at the kernel's
 * receive time stamp. Prints one JSON object.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, ENDS = 2, LEGS_MAX = 8192, BLOCK = 1 << 18, BLOCKS = 96, STEPS = 32, BUCKETS = 44 * STEPS };
static const uint32_t MAGIC = 0x52504231;
static const uint64_t WARM_NS = 300000000, DRAIN_NS = 400000000, LATE_NS = 100000000;

struct __attribute__((packed)) frame {
	struct ether_header ether;
	struct iphdr ip;
	struct udphdr udp;
	uint8_t first, type;
	uint16_t sequence;
	uint32_t timestamp, ssrc;
	uint32_t magic, leg, number; /* host order from here: sender and sink are one host */
	uint64_t sent_ns;
	uint8_t rest[160 - 20];
};

struct leg {
	struct frame frame;
	int end;
	uint32_t number, sum; /* `sum`: checksum of what never changes */
	uint16_t port;
};

struct end {
	char netns[64], device[IFNAMSIZ];
	int out, in, queued;
	uint8_t *ring;
	unsigned block;
	struct frame frames[BATCH];
	struct iovec pieces[BATCH];
	struct mmsghdr messages[BATCH];
};

static struct leg *legs;
static unsigned leg_count;
static struct end ends[ENDS];
static int end_count;
static uint64_t window_start, sent, received, late, misdelivered, refused, buckets[BUCKETS];

static void fail(const char *what)
{
	fprintf(stderr, "rtpload: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* ---- latencies: 32 steps a power of two, within 3 % ---- */

static unsigned bucket_of(uint64_t value)
{
	if (value < STEPS)
		return (unsigned)value;
	unsigned power = 63 - (unsigned)__builtin_clzll(value);
	unsigned bucket = (power - 4) * STEPS + (unsigned)(value >> (power - 5)) - STEPS;
	return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double percentile_us(double share)
{
	uint64_t wanted = (uint64_t)(share * (double)received), seen = 0;
	for (unsigned i = 0; i < BUCKETS; i++) {
		seen += buckets[i];
		if (seen > wanted || (seen == received && seen))
			return i < STEPS ? i / 1e3 : (double)((uint64_t)(STEPS + i % STEPS) << (i / STEPS - 1)) / 1e3;
	}
	return 0;
}

/* ---- frames ---- */

static uint32_t add(uint32_t sum, const void *data, size_t octets)
{
	const uint8_t *at = data;
	for (uint16_t word; octets > 1; octets -= 2, at += 2)
		memcpy(&word, at, 2), sum += word;
	return sum;
}

static uint16_t folded(uint32_t sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~(sum + (sum >> 16));
}

static void mac(const char *text, uint8_t *out)
{
	if (sscanf(text, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", out, out + 1, out + 2, out + 3, out + 4, out + 5) != 6)
		fail("MAC");
}

static void compose(struct leg *leg, const char *own, const char *peer, const char *from, const char *to, unsigned port)
{
	struct frame *f = &leg->frame;
	memset(f, 0xd5, sizeof *f);
	mac(own, f->ether.ether_shost);
	mac(peer, f->ether.ether_dhost);
	f->ether.ether_type = htons(ETHERTYPE_IP);
	f->ip = (struct iphdr){.version = 4, .ihl = 5, .tos = 0xb8, .ttl = 64, .protocol = IPPROTO_UDP,
		.tot_len = htons(sizeof *f - sizeof f->ether), .frag_off = htons(0x4000),
		.saddr = inet_addr(from), .daddr = inet_addr(to)};
	f->ip.check = folded(add(0, &f->ip, sizeof f->ip));
	f->udp = (struct udphdr){.source = htons(leg->port), .dest = htons((uint16_t)port),
		.len = htons(sizeof *f - sizeof f->ether - sizeof f->ip)};
	f->first = 0x80, f->type = 0, f->sequence = 0, f->timestamp = 0;
	f->ssrc = htonl(0x10000000 + leg_count);
	f->magic = MAGIC, f->leg = leg_count, f->number = 0, f->sent_ns = 0;
	leg->sum = add(0, &f->udp, ntohs(f->udp.len)) + add(0, &f->ip.saddr, 8) + htons(IPPROTO_UDP) + f->udp.len;
}

static void flush(struct end *end)
{
	for (int done = 0; done < end->queued;) {
		int count = sendmmsg(end->out, end->messages + done, (unsigned)(end->queued - done), 0);
		if (count < 0 && errno != ENOBUFS && errno != EAGAIN)
			fail("sendmmsg");
		refused += count < 0; /* the receiving backlog is full: a loss like any other */
		done += count < 0 ? 1 : count;
	}
	end->queued = 0;
}

static void send_one(struct leg *leg, uint64_t now)
{
	struct end *end = &ends[leg->end];
	struct frame *f = &end->frames[end->queued];
	*f = leg->frame;
	f->number = leg->number++;
	f->sequence = htons((uint16_t)f->number);
	f->timestamp = htonl(f->number * 160);
	f->sent_ns = now;
	uint16_t check = folded(add(add(leg->sum, &f->sequence, 6), &f->number, 12));
	f->udp.check = check ? check : 0xffff;
	sent += now >= window_start;
	if (++end->queued == BATCH)
		flush(end);
}

/* ---- receiving ---- */

static void account(const struct frame *f, uint64_t arrived)
{
	if (f->magic != MAGIC || f->leg >= leg_count || f->sent_ns < window_start)
		return;
	uint64_t took = arrived > f->sent_ns ? arrived - f->sent_ns : 0;
	received++;
	late += took > LATE_NS;
	misdelivered += ntohs(f->udp.dest) != legs[f->leg ^ 1].port || ntohs(f->sequence) != (uint16_t)f->number;
	buckets[bucket_of(took)]++;
}

static void drain_ring(struct end *end)
{
	for (;;) {
		struct tpacket_block_desc *block = (void *)(end->ring + (size_t)end->block * BLOCK);
		if (!(__atomic_load_n(&block->hdr.bh1.block_status, __ATOMIC_ACQUIRE) & TP_STATUS_USER))
			return;
		uint8_t *at = (uint8_t *)block + block->hdr.bh1.offset_to_first_pkt;
		for (uint32_t i = 0; i < block->hdr.bh1.num_pkts; i++) {
			struct tpacket3_hdr *head = (void *)at;
			if (head->tp_snaplen == sizeof(struct frame))
				account((void *)(at + head->tp_mac), head->tp_sec * 1000000000ull + head->tp_nsec);
			at += head->tp_next_offset;
		}
		__atomic_store_n(&block->hdr.bh1.block_status, TP_STATUS_KERNEL, __ATOMIC_RELEASE);
		end->block = (end->block + 1) % BLOCKS;
	}
}

static int packet_socket(int device, int protocol)
{
	struct sockaddr_ll here = {.sll_family = AF_PACKET, .sll_ifindex = device, .sll_protocol = htons((uint16_t)protocol)};
	int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1, size = 8 << 20, version = TPACKET_V3;
	struct tpacket_req3 ring = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = 2048,
		.tp_frame_nr = BLOCK / 2048 * BLOCKS, .tp_retire_blk_tov = 2};
	if (fd < 0)
		fail("AF_PACKET");
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	if (!protocol)
		setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
	else if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) ||
		 setsockopt(fd, SOL_PACKET, PACKET_VERSION, &version, sizeof version) ||
		 setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring))
		fail("ring");
	if (bind(fd, (void *)&here, sizeof here))
		fail("bind");
	return fd;
}

static int end_of(const char *netns, const char *device)
{
	for (int i = 0; i < end_count; i++)
		if (!strcmp(ends[i].device, device) && !strcmp(ends[i].netns, netns))
			return i;
	if (end_count == ENDS)
		fail("more than two ends");
	struct end *end = &ends[end_count];
	char path[100];
	snprintf(end->netns, sizeof end->netns, "%s", netns);
	snprintf(end->device, sizeof end->device, "%s", device);
	snprintf(path, sizeof path, "/run/netns/%s", netns);
	int space = open(path, O_RDONLY | O_CLOEXEC);
	if (space < 0 || setns(space, CLONE_NEWNET) || !if_nametoindex(device))
		fail(path);
	close(space);
	end->out = packet_socket((int)if_nametoindex(device), 0);
	end->in = packet_socket((int)if_nametoindex(device), ETH_P_ALL);
	end->ring = mmap(NULL, (size_t)BLOCK * BLOCKS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, end->in, 0);
	if (end->ring == MAP_FAILED)
		fail("mmap");
	for (int i = 0; i < BATCH; i++) {
		end->pieces[i] = (struct iovec){&end->frames[i], sizeof end->frames[i]};
		end->messages[i].msg_hdr = (struct msghdr){.msg_iov = &end->pieces[i], .msg_iovlen = 1};
	}
	return end_count++;
}

static void load(const char *path)
{
	char netns[64], device[IFNAMSIZ], own[20], peer[20], from[20], to[20];
	unsigned local, remote;
	FILE *file = fopen(path, "r");
	legs = calloc(LEGS_MAX, sizeof *legs);
	if (!file || !legs)
		fail(path);
	while (fscanf(file, "%63s %15s %19s %19s %19s %u %19s %u", netns, device, own, peer, from, &local, to, &remote) == 8) {
		if (leg_count == LEGS_MAX)
			fail("too many legs");
		struct leg *leg = &legs[leg_count];
		leg->end = end_of(netns, device);
		leg->port = (uint16_t)local;
		compose(leg, own, peer, from, to, remote);
		leg_count++;
	}
	fclose(file);
	if (!leg_count || leg_count % 2)
		fail("an even number of legs is needed");
}

static void run(double pps, double seconds)
{
	uint64_t start = now_ns(), count = 0, looked = 0, end = start + WARM_NS + (uint64_t)(seconds * 1e9), now;
	window_start = start + WARM_NS;
	while ((now = now_ns()) < end) {
		uint64_t due = pps > 0 ? (uint64_t)((double)(now - start) * pps / 1e9) : count + BATCH;
		due = due > count + BATCH ? count + BATCH : due;
		for (; count < due; count++)
			send_one(&legs[count % leg_count], now);
		for (int i = 0; i < end_count; i++)
			flush(&ends[i]);
		if (now - looked > 50000) {
			for (int i = 0; i < end_count; i++)
				drain_ring(&ends[i]);
			looked = now;
		}
	}
	while (now_ns() < end + DRAIN_NS)
		for (int i = 0; i < end_count; i++)
			drain_ring(&ends[i]);
}

int main(int argc, char **argv)
{
	cpu_set_t core;
	if (argc != 5)
		fail("usage: rtpload LEGS PPS SECONDS CPU");
	CPU_ZERO(&core);
	CPU_SET(atoi(argv[4]), &core);
	sched_setaffinity(0, sizeof core, &core);
	load(argv[1]);
	double seconds = atof(argv[3]);
	run(atof(argv[2]), seconds);
	printf("{\"legs\": %u, \"pps\": %.0f, \"sent\": %lu, \"received\": %lu, \"late\": %lu, \"misdelivered\": %lu, "
	       "\"refused\": %lu, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f}\n",
	       leg_count, (double)sent / seconds, sent, received, late, misdelivered, refused, percentile_us(.5),
	       percentile_us(.99), percentile_us(.999));
	return 0;
}
