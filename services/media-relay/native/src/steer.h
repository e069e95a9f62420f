/* Steering: an sk_lookup program hands all packets for bound slots to one socket per worker and family. */
#ifndef PBX_STEER_H
#define PBX_STEER_H

#include <stdint.h>

#include "abi.h"

enum { STEER_SOCKETS_MAX = 128 };

struct steer {
	int slots_fd, sockets_fd, program_fd, link_fd; /* -1: not open */
	uint64_t *slots;                               /* of the map, by slot: 1 + 2 * worker, 0: not ours */
};

/* 0, or -errno where the kernel or the privileges do not allow it; then nothing is held. */
int steer_open(struct steer *steer, const pr_endpoint bind[2]);
void steer_close(struct steer *steer);
/* Let a socket take the packets of one worker and family (0: IPv4, 1: IPv6). */
int steer_socket(struct steer *steer, uint32_t worker, int family, int fd);
void steer_slot(struct steer *steer, uint32_t slot, uint32_t worker);
void steer_stop(struct steer *steer, uint32_t slot);

#endif
