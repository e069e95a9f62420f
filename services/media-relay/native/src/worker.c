/* The threads that move packets: one a core, each with the sockets of its share of the slots in an epoll set. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "relay.h"

enum { STOP = UINT32_MAX, FIFO_PRIORITY = 10 };

uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void tell(struct pr_relay *relay, struct stream *stream, const struct packet *packet,
		 const struct onward *onward)
{
	/* A full ring leaves `told` as it is: the next packet tries again. */
	if (onward->first)
		stream->told = ring_push(&relay->ring, stream->forward.id, packet, false);
	if (onward->tap)
		ring_push(&relay->ring, stream->forward.id, packet, true);
}

static bool send_on(const struct slot *slot, const struct packet *packet, const struct onward *onward)
{
	struct sockaddr_storage to;
	int fd = slot->fd[onward->port % PORTS_PER_SLOT][family_of(onward->to)];
	if (fd < 0)
		return false;
	socklen_t size = to_sockaddr(onward->to, &to);
	return sendto(fd, packet->data, packet->length, MSG_DONTWAIT | MSG_NOSIGNAL, (void *)&to, size) >= 0;
}

void relay_packet(struct pr_relay *relay, struct slot *slot, uint32_t port, const struct packet *packet)
{
	struct onward onward;
	struct stream *stream = stream_at(slot, port);
	atomic_store_explicit(&slot->heard_ns, packet->now_ns, memory_order_relaxed);
	if (!stream)
		return;
	struct stream *peer = stream_at(slot, stream->forward.peer * 2);
	int refused = stream_receive(stream, peer, packet, &onward);
	if (onward.first || onward.tap)
		tell(relay, stream, packet, &onward);
	if (refused < 0 && !send_on(slot, packet, &onward))
		stream_drop(stream, DROP_SEND);
}

/* One packet per socket and round: epoll is level-triggered, and no stream can keep the others waiting. */
static void serve(struct worker *worker, uint32_t port, int family)
{
	struct sockaddr_storage from;
	socklen_t size = sizeof from;
	struct slot *slot = slot_at(worker->relay, port);
	uint8_t *buffer = worker->batch.packets[0];
	struct packet packet = {.data = buffer, .rtcp_port = port & 1};

	pthread_mutex_lock(&slot->lock);
	int fd = slot->fd[port % PORTS_PER_SLOT][family];
	ssize_t length = -1;
	if (fd >= 0) /* closed since epoll told it */
		length = recvfrom(fd, buffer, PACKET_MAX, MSG_DONTWAIT, (void *)&from, &size);
	if (length >= 0) {
		packet.length = (size_t)length;
		packet.now_ns = now_ns();
		from_sockaddr(&from, &packet.source);
		relay_packet(worker->relay, slot, port, &packet);
	}
	pthread_mutex_unlock(&slot->lock);
}

/* In an event: a port with its family above it, port 0 for the steered socket of that family, or STOP. */
static void serve_event(struct worker *worker, uint32_t event)
{
	if (event == STOP)
		return;
	if (event & 0xffff)
		serve(worker, event & 0xffff, (int)(event >> 16));
	else
		steered_serve(worker, (int)(event >> 16));
}

static void *work(void *argument)
{
	struct worker *worker = argument;
	struct epoll_event ready[READY];
	struct sched_param priority = {.sched_priority = FIFO_PRIORITY};
	cpu_set_t core;

	CPU_ZERO(&core);
	CPU_SET(worker->core, &core);
	pthread_setaffinity_np(pthread_self(), sizeof core, &core);
	if (!pthread_setschedparam(pthread_self(), SCHED_FIFO, &priority))
		worker->relay->realtime++;
	while (!worker->relay->stopping) {
		int count = epoll_wait(worker->epoll, ready, READY, -1);
		for (int i = 0; i < count; i++)
			serve_event(worker, ready[i].data.u32);
	}
	return NULL;
}

int worker_watch(struct pr_relay *relay, uint32_t port, int family, int fd)
{
	struct worker *worker = &relay->workers[port / PORTS_PER_SLOT % relay->worker_count];
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = port | (uint32_t)family << 16};
	return epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event) ? -errno : 0;
}

static int worker_start(struct pr_relay *relay, struct worker *worker)
{
	struct epoll_event stop = {.events = EPOLLIN, .data.u32 = STOP};
	worker->relay = relay;
	worker->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (worker->epoll < 0 || epoll_ctl(worker->epoll, EPOLL_CTL_ADD, relay->stop_fd, &stop))
		return -errno;
	if (relay->steer.slots) {
		int refused = steered_open(worker, (uint32_t)(worker - relay->workers));
		if (refused)
			return refused;
	}
	int error = pthread_create(&worker->thread, NULL, work, worker);
	worker->running = !error;
	return -error;
}

int workers_start(struct pr_relay *relay)
{
	sigset_t all, before;
	int error = 0;
	relay->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (relay->stop_fd < 0)
		return -errno;
	/* Signals are Python's: its handlers must not run on a thread of ours. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (uint32_t i = 0; i < relay->worker_count && !error; i++)
		error = worker_start(relay, &relay->workers[i]);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

void workers_stop(struct pr_relay *relay)
{
	uint64_t one = 1;
	relay->stopping = true;
	if (relay->stop_fd >= 0 && write(relay->stop_fd, &one, sizeof one) < 0)
		return; /* cannot be: an eventfd at 0 always takes 1 */
	for (uint32_t i = 0; i < relay->worker_count; i++) {
		if (relay->workers[i].running)
			pthread_join(relay->workers[i].thread, NULL);
		if (relay->workers[i].epoll >= 0)
			close(relay->workers[i].epoll);
		for (int family = 0; family < FAMILIES; family++)
			if (relay->workers[i].steered[family] >= 0)
				close(relay->workers[i].steered[family]);
	}
	if (relay->stop_fd >= 0)
		close(relay->stop_fd);
}
