/* The replayer: follows the durable log, cuts it into windows, has their slices uploaded, applies them to Redis by one
 * script each, and says so in the journal (DESIGN 3.5). One thread that owns one connection.
 *
 * A window's way: chosen -> OP_WINDOW committed and durable (slices, list images, chain) -> slices uploaded -> OP_UPLOADED
 * -> script sent -> answered OK -> OP_APPLIED committed and durable -> WM_APPLIED raised. Up to 4 windows are under way;
 * scripts leave in order. With publish=eager a script does not wait for the upload.
 *
 * A window may be composed anew before Redis has it: its slices were uploaded too long ago, or a list or an earlier window is
 * not what it was. Each composition has a chain of its own, so that a script which arrives late tells which one it was.
 *
 * Exactly once: the script moves Redis's position {seq, chain}; after any error the position is read and decides what was
 * executed. A position of our own history is healed: later means an answer was lost (the window is adopted from its
 * OP_WINDOW record), earlier that Redis forgot (recorded windows are sent again, with their recorded slices: P8). Any other
 * position, or none, stops replay until the operator acts: nothing is written then, replayer_status says why.
 *
 * Values in the view: "applied" {be64 epoch, be64 seq, 32 chain}, "uploaded" {be64 seq}, "history" {be64 seq, 32 chain}: where
 * this history began; "trim" {be64}; T_WINDOW: redis/window.h. */
#ifndef JFS_REDIS_REPLAYER_H
#define JFS_REDIS_REPLAYER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "journal/journal.h"
#include "journal/slice_plan.h"
#include "redis/lease.h"
#include "redis/url.h"

struct replayer;

#define RETENTION_MS (30u * 60 * 1000) /* how long Redis may forget (P8): the log is kept for so long once applied */

struct replayer_conflict {
	uint64_t parent, seq;	/* directory; the window's end */
	char name[256];
	size_t name_len;
	bool made;		/* we believed that there was nothing: we made it */
	bool present;		/* Redis has an entry there that is not what we believed: */
	uint8_t type;
	uint64_t ino;
};

struct replayer_ops {
	/* Uploads (copies the plans); done may be called from any thread, once. 0 or -errno (then done is not called). */
	int (*upload)(void *ctx, const struct slice_plan *plans, size_t n, void (*done)(void *arg, int err), void *arg);
	/* Deletes the objects of a slice that nothing names any more. done as above. NULL: objects are left. */
	int (*delete_slice)(void *ctx, uint64_t id, uint32_t size, void (*done)(void *arg, int err), void *arg);
	int (*next_slice)(void *ctx, uint64_t *id); /* 0; -ENODATA: none now. May block on the journal, not on the network */
	void (*on_fenced)(void *ctx, uint64_t epoch); /* another mount took over; the journal is frozen already */
	/* Somebody else wrote into our subtree. Must commit an OP_REPAIR record that takes over what Redis has and keeps ours
	 * under another name, and return 0 with its sequence, -ENOSPC to be asked again; otherwise replay stops. NULL: it
	 * stops. */
	int (*on_conflict)(void *ctx, const struct replayer_conflict *c, uint64_t *seq);
	void (*on_applied)(void *ctx, uint64_t seq); /* after WM_APPLIED rose. May be NULL */
	void (*on_stopped)(void *ctx); /* nothing moves any more in this life; replayer_status says why. May be NULL */
};

struct replayer_config {
	struct journal *journal;
	const struct rds_url *url; /* copied; batch_size, batch_interval_ns, mode (RDS_UNSAFE_BATCH) are read from it */
	uint64_t epoch, sid;
	uint64_t upload_delay_ms;
	bool eager;
	uint64_t retention_ms;	   /* 0: RETENTION_MS */
	uint64_t republish_ms;	   /* 0: 40 min. Slices uploaded for longer than that are uploaded anew before they are published */
	uint32_t pack_below;	   /* files' own slices of up to so many bytes share one of pack_size, the block size; 0: none */
	uint32_t pack_size;
	uint64_t upload_rate;	   /* bytes/s to begin with, 0: 10 MiB/s; measured later */
	struct replayer_ops ops;
	void *ctx;
};

/* Reads what the journal knows; the position of a new history must be in "applied" already (lease_acquire's, see
 * volume_set_position). Raises WM_APPLIED and WM_UPLOADED to what is recorded. 0, -ENOMEM, -EUCLEAN, -EIO, -ENODATA. */
int replayer_new(const struct replayer_config *cfg, struct replayer **out, struct errmsg *e);
int replayer_start(struct replayer *r);
/* Stops the thread; windows under way stay recorded and go on at the next mount. Then end the uploader (its callbacks may
 * still come, until replayer_free), then free. */
void replayer_stop(struct replayer *r);
void replayer_free(struct replayer *r); /* NULL-safe; stops first */

/* Anything may have changed (the network came back, somebody waits): look now. Any thread, also from callbacks. */
void replayer_kick(struct replayer *r);
/* Somebody else found Redis at this sequence number: if that is an earlier one than we know of, Redis forgot, and is healed (P8) also
 * where nothing would have to be sent. Any thread. */
void replayer_found(struct replayer *r, uint64_t seq);
/* The keeper took back a lease that Redis forgot, or saw this epoch. */
void replayer_set_epoch(struct replayer *r, uint64_t epoch);
/* Before replayer_start: the stock session that unlinked open files are listed under. */
void replayer_set_session(struct replayer *r, uint64_t sid);
void replayer_set_upload_delay(struct replayer *r, uint64_t ms);
void replayer_set_retention(struct replayer *r, uint64_t ms);

enum replayer_state { REPLAY_RUNNING, REPLAY_WAITING /* Redis is away */, REPLAY_STOPPED /* needs the operator */, REPLAY_FENCED };
struct replayer_status {
	enum replayer_state state;
	char reason[512]; /* one line: why it waits or stopped, and what to run */
	uint64_t applied, uploaded, trim; /* sequence numbers */
	unsigned windows; /* under way */
	uint64_t scripts, commands, resent, upload_bytes; /* since start */
	uint64_t pending_slices;
};
void replayer_status(struct replayer *r, struct replayer_status *out);

#endif
