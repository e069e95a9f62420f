/*
 * The relay's memory: slots of eight ports, their streams and sockets, workers, and the ring of what is told.
 *
 * Everything is allocated by pr_open. A slot has one lock, held for one packet or one control operation: the streams
 * of a call never leave its slot, so no other lock is ever needed with it.
 */
#ifndef PBX_RELAY_H
#define PBX_RELAY_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "steer.h"
#include "stream.h"

enum {
	PORTS_PER_SLOT = 8, STREAMS_PER_SLOT = 4, SLOTS = 65536 / PORTS_PER_SLOT, FAMILIES = 2,
	WORKERS_MAX = 64,
	EVENTS = 256,      /* in the ring: 5 s of a recorded call's packets, or 256 calls answered at once */
	READY = 128,       /* sockets served before epoll is asked again */
	DSCP_EF_TOS = 46 << 2,
	BATCH = 32,        /* packets a recvmmsg: 64 KiB of buffers a worker, and 0.3 ms of work */
	STEERED_BUFFER = 4 << 20, /* octets: all streams' packets of 20 ms at 1000 calls, and some */
};

struct slot {
	pthread_mutex_t lock;
	int fd[PORTS_PER_SLOT][FAMILIES]; /* -1: closed */
	bool bound;
	bool made;                        /* the lock, once: a worker may still come with an event of a former bind */
	_Atomic uint64_t heard_ns;
	struct stream streams[STREAMS_PER_SLOT];
};

struct ring {
	pthread_mutex_t lock;
	pr_event events[EVENTS];
	uint32_t head, tail; /* count up for ever */
	bool told;           /* the event descriptor was written and not read since */
	int fd;
	_Atomic uint64_t taps_lost;
};

/* What recvmmsg fills: made once. */
struct batch {
	struct mmsghdr messages[BATCH];
	struct iovec pieces[BATCH];
	struct sockaddr_storage from[BATCH];
	uint8_t control[BATCH][64];
	uint8_t packets[BATCH][PACKET_MAX];
};

struct worker {
	struct pr_relay *relay;
	pthread_t thread;
	int core, epoll;
	bool running;
	int steered[FAMILIES]; /* sockets that take the packets of all its slots; -1: none */
	struct batch batch;
};

struct pr_relay {
	pr_options options;
	struct slot *slots;
	struct ring ring;
	struct steer steer;
	struct worker workers[WORKERS_MAX];
	uint32_t worker_count;
	_Atomic uint32_t realtime;
	_Atomic bool stopping;
	int steer_refused;   /* errno */
	int stop_fd;
};

uint64_t now_ns(void);
socklen_t to_sockaddr(const pr_endpoint *endpoint, struct sockaddr_storage *address);
void from_sockaddr(const struct sockaddr_storage *address, pr_endpoint *endpoint);
int family_of(const pr_endpoint *endpoint); /* 0: IPv4, 1: IPv6 */

int ring_open(struct ring *ring);
void ring_close(struct ring *ring);
/* false: full. `packet` NULL: the first packet of the forward, else a copy. */
bool ring_push(struct ring *ring, uint32_t forward, const struct packet *about, bool copy);

int workers_start(struct pr_relay *relay);
void workers_stop(struct pr_relay *relay);
int worker_watch(struct pr_relay *relay, uint32_t port, int family, int fd);

int steered_open(struct worker *worker, uint32_t number);
void steered_serve(struct worker *worker, int family);
/* One packet that came to `port` of its slot, which is locked. */
void relay_packet(struct pr_relay *relay, struct slot *slot, uint32_t port, const struct packet *packet);

struct slot *slot_at(const struct pr_relay *relay, uint32_t port);
/* The stream of a port, NULL where none is installed; its slot is locked. */
struct stream *stream_at(struct slot *slot, uint32_t port);

#endif
