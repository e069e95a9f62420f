/*
 * The whole library under the sanitizers: slots bound, installed, flooded, read and removed at once. Every packet sent
 * must be received by the peer's socket or counted, and nothing may be left when the relay is closed.
 */
#include <arpa/inet.h>
#include <assert.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../src/relay.h"

enum { ROUNDS = 60, PACKETS = 40 };

static int phone(pr_endpoint *endpoint)
{
	struct sockaddr_storage storage;
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof storage;
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	assert(fd >= 0 && !bind(fd, (void *)&here, sizeof here));
	assert(!getsockname(fd, (void *)&storage, &size));
	from_sockaddr(&storage, endpoint);
	return fd;
}

static uint32_t bind_slot(pr_relay *relay)
{
	uint32_t refused;
	for (uint32_t port = 42000 + (uint32_t)getpid() % 500 * 8; port < 60000; port += 8)
		if (!pr_bind(relay, port, &refused))
			return port;
	assert(!"no free slot");
	return 0;
}

static void receive_all(int fd, int expected)
{
	char packet[PACKET_MAX];
	struct pollfd ready = {.fd = fd, .events = POLLIN};
	for (int i = 0; i < expected; i++) {
		assert(poll(&ready, 1, 5000) == 1);
		assert(recv(fd, packet, sizeof packet, 0) == 172);
	}
}

static void play_round(pr_relay *relay, int a, int b, const pr_endpoint *at_a, const pr_endpoint *at_b)
{
	uint8_t packet[172] = {0x80};
	uint32_t port = bind_slot(relay), id = port / 2;
	pr_forward one = {.id = id, .peer = id + 2, .rtp = *at_a, .rtcp = *at_a, .receive = 1, .send = 1, .tap = 1,
			  .payload_types = {UINT64_MAX, UINT64_MAX}, .clock_rate_hz = 8000};
	pr_forward other = one;
	other.id = one.peer, other.peer = id, other.rtp = other.rtcp = *at_b;
	assert(!pr_upsert(relay, &one) && !pr_upsert(relay, &other));
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	pr_counters counters;
	uint8_t found;
	for (int i = 0; i < PACKETS; i++) {
		packet[3] = (uint8_t)i;
		assert(sendto(a, packet, sizeof packet, 0, (void *)&to, sizeof to) == (ssize_t)sizeof packet);
		assert(!pr_upsert(relay, &one));
		pr_read(relay, &id, 1, &counters, &found);
		assert(found && counters.packets <= PACKETS);
	}
	receive_all(b, PACKETS);
	assert(pr_remove(relay, id, &counters) && counters.packets == PACKETS && !counters.lost);
	pr_unbind(relay, port);
}

static void play(uint32_t steer)
{
	pr_options options = {.steer = steer, .cores = {0, 1}, .core_count = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1};
	inet_pton(AF_INET6, "::ffff:127.0.0.1", options.bind[0].addr);
	options.bind[0].port = 1;
	pr_relay *relay = pr_open(&options);
	pr_endpoint at_a, at_b;
	pr_event event;
	int a = phone(&at_a), b = phone(&at_b);
	assert(relay);
	for (int i = 0; i < ROUNDS; i++) {
		play_round(relay, a, b, &at_a, &at_b);
		pr_woken(relay);
		while (pr_next(relay, &event))
			assert(event.length == 0 || event.length == 172);
	}
	printf("%d rounds of %d packets%s\n", ROUNDS, PACKETS, steer && !pr_steered(relay) ? ", steered" : "");
	pr_close(relay);
	close(a);
	close(b);
}

int main(void)
{
	play(0);
	play(1); /* where the kernel does not allow it: as before */
	return 0;
}
