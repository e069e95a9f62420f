/*
 * Any octets through the packet path of two peers: no read outside the packet, no undefined arithmetic, and what must
 * hold after every packet. Built for libFuzzer, or with RANDOM_DRIVER as a program of its own (any compiler).
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../src/stream.h"

static pr_endpoint endpoint(uint8_t host, uint16_t port)
{
	return (pr_endpoint){.addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = host}, .port = port};
}

static pr_forward forward(uint32_t id, uint8_t knobs)
{
	return (pr_forward){.id = id, .peer = id ^ 2, .rtp = endpoint(1, 4000), .rtcp = endpoint(1, 4001),
		.payload_types = {knobs & 1 ? 0x101 : ~(uint64_t)0, ~(uint64_t)0},
		.latch_until_ns = knobs & 2 ? UINT64_MAX : 0, .generation = knobs >> 6, .clock_rate_hz = knobs & 4 ? 8000 : 0,
		.limit_pps = knobs & 8 ? 50 : 0, .rtcp_mux = knobs >> 4 & 1, .receive = !(knobs & 32), .send = 1, .tap = 0};
}

static uint64_t sum_of_drops(const pr_counters *counters)
{
	uint64_t sum = 0;
	for (int i = 0; i < 6; i++)
		sum += counters->drops[i];
	return sum;
}

/* Packets in the input: knobs, source, time step, length (2 octets), data. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct stream streams[2];
	uint64_t now = 1000000000, handled = 0;
	memset(streams, 0, sizeof streams);
	while (size > 5) {
		size_t length = (size_t)(data[3] << 8 | data[4]) % PACKET_MAX;
		uint8_t knobs = data[0], from = data[1], step = data[2];
		data += 5, size -= 5;
		length = length < size ? length : size;
		uint8_t *exact = malloc(length ? length : 1); /* so that a read past the end is seen */
		memcpy(exact, data, length);
		struct stream *stream = &streams[from & 1];
		if (!stream->installed || from & 2)
			stream_install(stream, (pr_forward[]){forward(from & 1 ? 2 : 0, knobs)});
		struct stream *peer = streams[~from & 1].installed ? &streams[~from & 1] : NULL;
		struct packet packet = {exact, length, endpoint(from >> 2 & 3, (uint16_t)(4000 + (from >> 4 & 1))),
					now += (uint64_t)step << (step & 31), from >> 5 & 1};
		struct onward onward;
		uint64_t before = sum_of_drops(&stream->counters);
		int refused = stream_receive(stream, peer, &packet, &onward);
		assert(refused >= -1 && refused < 6);
		assert(sum_of_drops(&stream->counters) == before + (refused >= 0));
		assert((refused >= 0) == (onward.to == NULL));
		assert(!(stream->version & 1) && ++handled);
		assert(stream->counters.jitter_q4 >= 0);
		free(exact);
		data += length, size -= length;
	}
	return 0;
}

#ifdef RANDOM_DRIVER
static uint64_t state = 88172645463325252u;
static uint8_t octet(void)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return (uint8_t)(state >> 24);
}

/* Mostly plausible headers, since noise alone never gets past the first check. */
static size_t compose(uint8_t *out, size_t room)
{
	size_t at = 0;
	while (at + 5 + 64 < room && octet() > 8) {
		size_t length = octet() % 64;
		out[at++] = octet(), out[at++] = octet(), out[at++] = octet() % 40, out[at++] = 0, out[at++] = (uint8_t)length;
		for (size_t i = 0; i < length; i++)
			out[at + i] = octet();
		if (length > 12 && octet() > 16) {
			out[at] = 0x80 | (octet() & 3), out[at + 1] = octet() & 1 ? 200 + (octet() & 1) : octet() & 127;
			out[at + 2] = octet() & 1 ? 0 : out[at + 2], out[at + 8] = out[at + 9] = out[at + 10] = 0;
		}
		at += length;
	}
	return at;
}

int main(int argc, char **argv)
{
	uint8_t input[4096];
	long rounds = argc > 1 ? atol(argv[1]) : 10000;
	for (long i = 0; i < rounds; i++)
		LLVMFuzzerTestOneInput(input, compose(input, sizeof input));
	printf("%ld inputs\n", rounds);
	return 0;
}
#endif
