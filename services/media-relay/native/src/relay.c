/* What Python calls: open and close, slots, forwards, counters. Every function here runs on Python's thread. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "relay.h"

static const uint8_t MAPPED[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

int family_of(const pr_endpoint *endpoint)
{
	return memcmp(endpoint->addr, MAPPED, sizeof MAPPED) != 0;
}

socklen_t to_sockaddr(const pr_endpoint *endpoint, struct sockaddr_storage *address)
{
	if (!family_of(endpoint)) {
		struct sockaddr_in *v4 = (void *)address;
		*v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(endpoint->port)};
		memcpy(&v4->sin_addr, endpoint->addr + sizeof MAPPED, 4);
		return sizeof *v4;
	}
	struct sockaddr_in6 *v6 = (void *)address;
	*v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(endpoint->port)};
	memcpy(&v6->sin6_addr, endpoint->addr, 16);
	return sizeof *v6;
}

void from_sockaddr(const struct sockaddr_storage *address, pr_endpoint *endpoint)
{
	endpoint->reserved = 0;
	if (address->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)address;
		memcpy(endpoint->addr, MAPPED, sizeof MAPPED);
		memcpy(endpoint->addr + sizeof MAPPED, &v4->sin_addr, 4);
		endpoint->port = ntohs(v4->sin_port);
	} else {
		const struct sockaddr_in6 *v6 = (const void *)address;
		memcpy(endpoint->addr, &v6->sin6_addr, 16);
		endpoint->port = ntohs(v6->sin6_port);
	}
}

struct slot *slot_at(const struct pr_relay *relay, uint32_t port)
{
	return &relay->slots[port / PORTS_PER_SLOT % SLOTS];
}

struct stream *stream_at(struct slot *slot, uint32_t port)
{
	struct stream *stream = &slot->streams[port / 2 % STREAMS_PER_SLOT];
	return stream->installed ? stream : NULL;
}

static struct slot *slots_open(void)
{
	/* Zero pages until a slot is used: 64 Ki ports cost address space, not memory. */
	struct slot *slots = mmap(NULL, sizeof *slots * SLOTS, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	return slots == MAP_FAILED ? NULL : slots;
}

pr_relay *pr_open(const pr_options *options)
{
	struct pr_relay *relay = calloc(1, sizeof *relay);
	if (!relay)
		return NULL;
	relay->options = *options;
	relay->worker_count = options->core_count > WORKERS_MAX ? WORKERS_MAX : options->core_count;
	relay->ring.fd = relay->stop_fd = -1;
	for (uint32_t i = 0; i < relay->worker_count; i++) {
		relay->workers[i].epoll = -1;
		relay->workers[i].steered[0] = relay->workers[i].steered[1] = -1;
		relay->workers[i].core = options->cores[i];
	}
	relay->slots = slots_open();
	relay->steer = (struct steer){-1, -1, -1, -1, NULL};
	if (options->steer && 2 * relay->worker_count <= STEER_SOCKETS_MAX)
		relay->steer_refused = -steer_open(&relay->steer, options->bind);
	int error = !relay->worker_count ? -EINVAL : relay->slots ? ring_open(&relay->ring) : -ENOMEM;
	if (!error)
		error = workers_start(relay);
	if (!error)
		return relay;
	pr_close(relay);
	errno = -error;
	return NULL;
}

void pr_close(pr_relay *relay)
{
	steer_close(&relay->steer);
	workers_stop(relay);
	for (uint32_t slot = 0; relay->slots && slot < SLOTS; slot++)
		pr_unbind(relay, slot * PORTS_PER_SLOT);
	if (relay->slots)
		munmap(relay->slots, sizeof *relay->slots * SLOTS);
	ring_close(&relay->ring);
	free(relay);
}

static int socket_open(const pr_endpoint *local, uint32_t port)
{
	int one = 1, tos = DSCP_EF_TOS;
	struct sockaddr_storage address;
	pr_endpoint here = *local;
	here.port = (uint16_t)port;
	socklen_t size = to_sockaddr(&here, &address);
	int fd = socket(address.ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (address.ss_family == AF_INET6) {
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
		setsockopt(fd, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof tos);
	} else {
		setsockopt(fd, IPPROTO_IP, IP_TOS, &tos, sizeof tos);
	}
	if (!bind(fd, (void *)&address, size))
		return fd;
	int error = -errno;
	close(fd);
	return error;
}

static void slot_shut(struct slot *slot)
{
	for (unsigned offset = 0; offset < PORTS_PER_SLOT; offset++)
		for (unsigned family = 0; family < FAMILIES; family++) {
			if (slot->fd[offset][family] >= 0)
				close(slot->fd[offset][family]);
			slot->fd[offset][family] = -1;
		}
}

static int port_open(struct pr_relay *relay, struct slot *slot, uint32_t port)
{
	for (int i = 0; i < FAMILIES; i++) {
		const pr_endpoint *local = &relay->options.bind[i];
		if (!local->port)
			continue;
		int family = family_of(local), fd = socket_open(local, port);
		if (fd < 0)
			return fd;
		slot->fd[port % PORTS_PER_SLOT][family] = fd;
		int error = worker_watch(relay, port, family, fd);
		if (error)
			return error;
	}
	return 0;
}

static void lock_open(struct slot *slot)
{
	/* A control thread that is preempted in a slot must not hold up a real-time worker. */
	pthread_mutexattr_t attributes;
	if (slot->made)
		return;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&slot->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	slot->made = true;
	memset(slot->fd, 0xff, sizeof slot->fd);
}

int pr_bind(pr_relay *relay, uint32_t slot_port, uint32_t *refused)
{
	struct slot *slot = slot_at(relay, slot_port);
	int error = 0;
	if (slot->bound)
		return 0;
	lock_open(slot);
	pthread_mutex_lock(&slot->lock);
	for (uint32_t port = slot_port; port < slot_port + PORTS_PER_SLOT && !error; port++) {
		*refused = port;
		error = port_open(relay, slot, port);
	}
	if (error)
		slot_shut(slot);
	slot->heard_ns = 0;
	slot->bound = !error;
	if (!error)
		steer_slot(&relay->steer, slot_port / PORTS_PER_SLOT, slot_port / PORTS_PER_SLOT % relay->worker_count);
	pthread_mutex_unlock(&slot->lock);
	return error;
}

void pr_unbind(pr_relay *relay, uint32_t slot_port)
{
	struct slot *slot = slot_at(relay, slot_port);
	if (!slot->bound)
		return;
	pthread_mutex_lock(&slot->lock);
	steer_stop(&relay->steer, slot_port / PORTS_PER_SLOT);
	slot_shut(slot);
	slot->bound = false;
	slot->heard_ns = 0;
	for (unsigned i = 0; i < STREAMS_PER_SLOT; i++)
		slot->streams[i].installed = false;
	pthread_mutex_unlock(&slot->lock);
}

uint64_t pr_last_heard_ns(const pr_relay *relay, uint32_t slot_port)
{
	return atomic_load_explicit(&slot_at(relay, slot_port)->heard_ns, memory_order_relaxed);
}

int pr_upsert(pr_relay *relay, const pr_forward *forward)
{
	struct slot *slot = slot_at(relay, forward->id * 2);
	if (!slot->bound || forward->id >= SLOTS * STREAMS_PER_SLOT ||
	    forward->peer / STREAMS_PER_SLOT != forward->id / STREAMS_PER_SLOT)
		return -EINVAL;
	pthread_mutex_lock(&slot->lock);
	stream_install(&slot->streams[forward->id % STREAMS_PER_SLOT], forward);
	pthread_mutex_unlock(&slot->lock);
	return 0;
}

int pr_remove(pr_relay *relay, uint32_t id, pr_counters *last)
{
	struct slot *slot = slot_at(relay, id * 2);
	if (!slot->bound)
		return 0;
	pthread_mutex_lock(&slot->lock);
	struct stream *stream = stream_at(slot, id * 2);
	if (stream) {
		*last = stream->counters;
		stream->installed = false;
	}
	pthread_mutex_unlock(&slot->lock);
	return stream != NULL;
}

void pr_read(const pr_relay *relay, const uint32_t *ids, uint32_t count, pr_counters *out, uint8_t *found)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct stream *stream = stream_at(slot_at(relay, ids[i] * 2), ids[i] * 2);
		found[i] = stream != NULL;
		if (stream)
			stream_read(stream, &out[i]);
	}
}

uint32_t pr_realtime(const pr_relay *relay)
{
	return relay->realtime;
}

int pr_steered(const pr_relay *relay)
{
	return relay->steer.slots ? 0 : relay->steer_refused;
}

uint32_t pr_size(uint32_t which)
{
	const uint32_t sizes[] = {sizeof(pr_endpoint), sizeof(pr_forward), sizeof(pr_counters), sizeof(pr_event)};
	return which < sizeof sizes / sizeof sizes[0] ? sizes[which] : 0;
}
