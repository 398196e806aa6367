/* The uploader: carries out slice plans (journal/slice_plan.h).
 *
 * A plan's composition is durable in base before it comes here. For each slice: verify every staged run against its
 * checksum (one that was uploaded already and given back, or is damaged, is read from that object), cut into blocks, compress,
 * PUT, then HEAD and compare the size (stock's fsck never looks, DESIGN 3.4).
 * Only then is the batch's `done` called with 0.
 *
 * Failures. Object store errors are waited out for ever (1 s .. 30 s between rounds, woken by uploader_kick): a plan is
 * never given up because S3 is away or refuses us; the reason is in the stats and, rate-limited, in the log. Nor do objects that
 * cannot be deleted keep others from being stored, or the other way round. Only bytes
 * that cannot be had any more end a batch: -EBADMSG (a staged run does not match its checksum), -ENOENT (its segment is
 * gone), -EIO; nothing of that slice was PUT then. -ECANCELED when the uploader is closed.
 *
 * Memory: at most `buffer_bytes` of blocks are assembled at a time, but always room for one. */
#ifndef JFS_S3_UPLOAD_H
#define JFS_S3_UPLOAD_H

#include <stdbool.h>

#include "journal/slice_plan.h"
#include "journal/staging.h"
#include "s3/block.h"
#include "s3/object.h"
#include "s3/reader.h"

struct uploader;

/* Where staged bytes are that staging has given back: the first of them as a PIECE_OBJECT of 1 to staged->len bytes. 0, -ENOENT,
 * -errno. The uploader's thread; may block, not on the network. */
typedef int (*uploader_moved)(void *ctx, const struct slice_piece *staged, struct slice_piece *object);

struct uploader_config {
	struct obj_store *store;
	struct staging *staging;
	struct slice_reader *reader; /* for PIECE_OBJECT; its cache gets what was uploaded (may be NULL in tests) */
	struct block_format format;
	uint64_t buffer_bytes;
	unsigned max_parallel; /* blocks in flight */
	uploader_moved moved;  /* NULL: they are nowhere else */
	void *ctx;	       /* of moved */
};

int uploader_new(const struct uploader_config *cfg, struct uploader **out);
/* Stops: batches that are not finished get -ECANCELED. NULL-safe. The store must still be open. */
void uploader_free(struct uploader *up);

/* Queues a batch (copied); done is called once, from the uploader's thread. 0 or -ENOMEM. Does not block. */
int uploader_submit(struct uploader *up, const struct slice_plan *plans, size_t n, void (*done)(void *arg, int err), void *arg);
/* Deletes all objects of a slice (id, size); "not there" is success. An outage is waited out like that of uploads; what the store
 * refuses (-EACCES and the like) is answered when the others were tried. */
int uploader_delete(struct uploader *up, uint64_t id, uint32_t size, void (*done)(void *arg, int err), void *arg);
/* Tries what waits for a retry now (the network came back, somebody waits). */
void uploader_kick(struct uploader *up);

struct uploader_stats {
	uint64_t blocks_pending, bytes_pending; /* submitted, not confirmed */
	uint64_t blocks_done, bytes_done;	/* confirmed since start (plain bytes) */
	uint64_t errors;
	uint64_t failing_ms;	 /* for how long every try has failed; 0: fine */
	char last_error[256];	 /* "" while fine */
};
void uploader_stats(struct uploader *up, struct uploader_stats *out);

#endif
