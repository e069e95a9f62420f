/* The steered socket of a worker: packets of all its slots in batches, each with the port that it was sent to. */
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <unistd.h>

#include "relay.h"

#ifndef IPV6_RECVORIGDSTADDR
#define IPV6_RECVORIGDSTADDR 74
#endif

static int socket_for(int family)
{
	int one = 1, size = STEERED_BUFFER, fd;
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	fd = socket(family ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Its own port is any free one of the loopback: nothing outside of this machine reaches it by address. */
	int error = family ? setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) ||
				     setsockopt(fd, IPPROTO_IPV6, IPV6_RECVORIGDSTADDR, &one, sizeof one) ||
				     bind(fd, (void *)&v6, sizeof v6)
			   : setsockopt(fd, IPPROTO_IP, IP_RECVORIGDSTADDR, &one, sizeof one) ||
				     bind(fd, (void *)&v4, sizeof v4);
	if (error) {
		error = -errno;
		close(fd);
		return error;
	}
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size))
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
	return fd;
}

static void batch_make(struct batch *batch)
{
	for (int i = 0; i < BATCH; i++) {
		batch->pieces[i] = (struct iovec){batch->packets[i], PACKET_MAX};
		batch->messages[i].msg_hdr = (struct msghdr){.msg_iov = &batch->pieces[i], .msg_iovlen = 1,
			.msg_name = &batch->from[i], .msg_control = batch->control[i]};
	}
}

int steered_open(struct worker *worker, uint32_t number)
{
	batch_make(&worker->batch);
	for (int i = 0; i < FAMILIES; i++) {
		const pr_endpoint *local = &worker->relay->options.bind[i];
		if (!local->port)
			continue;
		int family = family_of(local), fd = socket_for(family);
		if (fd < 0)
			return fd;
		worker->steered[family] = fd;
		struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)family << 16};
		int error = steer_socket(&worker->relay->steer, number, family, fd);
		if (error < 0)
			return error;
		if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, fd, &event))
			return -errno;
	}
	return 0;
}

/* The port that a packet was sent to; 0: not told. */
static uint32_t port_of(struct msghdr *message)
{
	for (struct cmsghdr *at = CMSG_FIRSTHDR(message); at; at = CMSG_NXTHDR(message, at)) {
		struct sockaddr_storage to;
		bool told = (at->cmsg_level == IPPROTO_IP && at->cmsg_type == IP_RECVORIGDSTADDR) ||
			    (at->cmsg_level == IPPROTO_IPV6 && at->cmsg_type == IPV6_RECVORIGDSTADDR);
		size_t length = at->cmsg_len - CMSG_LEN(0);
		if (!told || length > sizeof to)
			continue;
		pr_endpoint endpoint;
		memcpy(&to, CMSG_DATA(at), length);
		from_sockaddr(&to, &endpoint);
		return endpoint.port;
	}
	return 0;
}

static void serve_one(struct worker *worker, int place)
{
	struct batch *batch = &worker->batch;
	uint32_t port = port_of(&batch->messages[place].msg_hdr);
	struct slot *slot = slot_at(worker->relay, port);
	if (!port || !slot->made)
		return;
	struct packet packet = {.data = batch->packets[place], .length = batch->messages[place].msg_len,
				.now_ns = now_ns(), .rtcp_port = port & 1};
	from_sockaddr(&batch->from[place], &packet.source);
	pthread_mutex_lock(&slot->lock);
	if (slot->bound) /* else unbound since it came */
		relay_packet(worker->relay, slot, port, &packet);
	pthread_mutex_unlock(&slot->lock);
}

void steered_serve(struct worker *worker, int family)
{
	struct batch *batch = &worker->batch;
	for (int i = 0; i < BATCH; i++) {
		batch->messages[i].msg_hdr.msg_namelen = sizeof batch->from[i];
		batch->messages[i].msg_hdr.msg_controllen = sizeof batch->control[i];
	}
	int count = recvmmsg(worker->steered[family], batch->messages, BATCH, MSG_DONTWAIT, NULL);
	for (int i = 0; i < count; i++)
		serve_one(worker, i);
}
