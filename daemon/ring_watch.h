/* The rings' threads, each in the scheduling class that is right for it (thread_class.h; internal to daemon/transport_ring). */
#ifndef JFS_DAEMON_RING_WATCH_H
#define JFS_DAEMON_RING_WATCH_H

struct ring_watch;

/* For n threads, served on `cpus` CPUs. NULL: cannot be done here, or out of memory; all below take that. */
struct ring_watch *ring_watch_new(unsigned n, unsigned cpus);
/* Thread i's own call, before it serves. */
void ring_watch_join(struct ring_watch *w, unsigned i);
/* Thread i has taken a request. By that thread. */
void ring_watch_note(struct ring_watch *w, unsigned i);
/* How often one of the threads became SCHED_IDLE. */
unsigned ring_watch_times(const struct ring_watch *w);
/* Thread i is about to end, and is not looked at any more. */
void ring_watch_leave(struct ring_watch *w, unsigned i);
/* Makes all threads ordinary, and looks on no more. While they live. */
void ring_watch_stop(struct ring_watch *w);
/* After the threads have ended. */
void ring_watch_free(struct ring_watch *w);

#endif
