/* One queue of FUSE over io_uring: the kernel has one for each possible CPU, and puts a request into that of the CPU its
 * caller runs on. One thread serves a queue, pinned to that CPU if it may be: so caller and daemon take turns on one CPU, and no sleeping
 * one has to be woken, which is the greater part of a request's cost.
 *
 * An entry holds one request from its arrival to its answer. States of an entry, and who may touch it:
 *   with the kernel   registered or committed; unique == 0. Nobody.
 *   arrived           the kernel has written it; head->commit_id != 0, unique == 0. The queue's thread.
 *   taken             executed, or waiting elsewhere for its answer; unique != 0. Whoever answers it, once.
 *   answered          unique == 0: in the mail, or about to be committed. The queue's thread.
 * Answers by the queue's own thread are prepared at once and go out together with its next system call; others put the
 * entry into the queue's mail, an atomic stack, and write to an eventfd that the ring reads if the thread sleeps.
 *
 * So a queue has room for RING_DEPTH requests at a time, those included that wait for network, room or sync: what comes
 * after them waits in the kernel. Buffers cost memory when they are used, and the kernel takes the entry used last first.
 *
 * Life: opened, registered and served by its thread; ring_queue_quiet (it executes nothing more, answers still go out),
 * ring_queue_end, ring_queue_fini. Failure modes: see transport_ring.c. */
#ifndef JFS_DAEMON_RING_QUEUE_H
#define JFS_DAEMON_RING_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "daemon/ring_wire.h"
#include "daemon/uring.h"

enum { RING_DEPTH = 128 };

struct cpus;
struct ring_queue;
struct ring_watch;
struct transport;

struct ring_entry {
	struct ring_queue *q;
	struct ring_entry *next; /* in the mail */
	struct ring_head *head;
	uint8_t *payload;
	struct iovec buffers[2]; /* the two, as the kernel is told when registering */
	uint64_t commit_id;	 /* of the request being answered */
	_Atomic uint64_t unique;
};

struct ring_queue {
	struct transport *t;
	struct ring_watch *watch; /* or NULL; as the next, to be set before the thread starts */
	const struct cpus *cpus;  /* that the thread may use */
	unsigned id;
	int device; /* of the connection */
	struct uring u;
	struct ring_entry *entries; /* RING_DEPTH */
	void *memory;
	size_t memory_size, payload_size;
	int wake_fd;
	uint64_t wake_count; /* the ring reads into it */
	_Atomic(struct ring_entry *) mail;
	atomic_bool asleep, quiet, end;
	bool is_quiet; /* the thread has seen it */
};

/* Memory and descriptors of queue number `id`; payload_size bytes for each entry. 0, -ENOMEM, -errno. `t`, `device` must
 * outlive it. */
int ring_queue_init(struct ring_queue *q, struct transport *t, unsigned id, int device, size_t payload_size);
/* After the thread has ended. NULL-safe members: also after a failed init. */
void ring_queue_fini(struct ring_queue *q);

/* --- by the queue's thread --- */
/* Pins the thread, opens the ring, and tries a round trip. 0 or -errno. */
int ring_queue_open(struct ring_queue *q);
/* Offers all entries to the kernel. 0 or -errno: the kernel gives the ring up then, for the whole connection. */
int ring_queue_register(struct ring_queue *q);
/* Serves until ring_queue_end; calls `quiet(arg)` once after ring_queue_quiet, from when on nothing is executed. -errno: the
 * ring does not work any more. */
int ring_queue_serve(struct ring_queue *q, void (*quiet)(void *arg), void *arg);

/* --- by any thread --- */
/* The answer to the request in entry `n`. As writev(2). */
ssize_t ring_queue_reply(struct ring_queue *q, unsigned n, const struct iovec *iov, int count);
/* Is the request that the kernel calls `unique` here, arrived or taken and not answered yet? */
bool ring_queue_has(const struct ring_queue *q, uint64_t unique);
void ring_queue_quiet(struct ring_queue *q);
void ring_queue_end(struct ring_queue *q);

#endif
