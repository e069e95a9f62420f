/* The ring that carries first packets and copies to Python's loop: bounded, never waited for by a worker. */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "relay.h"

int ring_open(struct ring *ring)
{
	ring->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (ring->fd < 0)
		return -errno;
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&ring->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	return 0;
}

void ring_close(struct ring *ring)
{
	if (ring->fd >= 0)
		close(ring->fd);
}

static void wake(struct ring *ring)
{
	uint64_t one = 1;
	if (!ring->told && write(ring->fd, &one, sizeof one) == (ssize_t)sizeof one)
		ring->told = true;
}

bool ring_push(struct ring *ring, uint32_t forward, const struct packet *about, bool copy)
{
	pthread_mutex_lock(&ring->lock);
	bool room = ring->head - ring->tail < EVENTS;
	if (room) {
		pr_event *event = &ring->events[ring->head++ % EVENTS];
		event->forward = forward;
		event->at_ns = about->now_ns;
		event->source = about->source;
		event->length = copy ? (uint32_t)about->length : 0;
		if (copy)
			memcpy(event->packet, about->data, about->length);
		wake(ring);
	} else if (copy) {
		ring->taps_lost++;
	}
	pthread_mutex_unlock(&ring->lock);
	return room;
}

int pr_event_fd(const pr_relay *relay)
{
	return relay->ring.fd;
}

void pr_woken(pr_relay *relay)
{
	uint64_t count;
	pthread_mutex_lock(&relay->ring.lock);
	if (read(relay->ring.fd, &count, sizeof count) == (ssize_t)sizeof count)
		relay->ring.told = false;
	pthread_mutex_unlock(&relay->ring.lock);
}

int pr_next(pr_relay *relay, pr_event *event)
{
	struct ring *ring = &relay->ring;
	pthread_mutex_lock(&ring->lock);
	int some = ring->head != ring->tail;
	if (some) {
		const pr_event *oldest = &ring->events[ring->tail++ % EVENTS];
		memcpy(event, oldest, offsetof(pr_event, packet) + oldest->length);
	}
	pthread_mutex_unlock(&ring->lock);
	return some;
}

uint64_t pr_taps_lost(const pr_relay *relay)
{
	return relay->ring.taps_lost;
}
