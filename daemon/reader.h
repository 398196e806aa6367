/* What the front needs from whoever reads slices (s3/ behind the disk cache; a local-only mount has none). */
#ifndef JFS_DAEMON_READER_H
#define JFS_DAEMON_READER_H

#include <stdint.h>

struct block_reader {
	/* Fills buf with bytes [off, off+len) of the slice; `size` is the slice's whole length. Blocks; workers only; by many
	 * at once. 0; -ENOENT (the object is gone: the list may have changed); -EIO (unreachable for longer than it retries,
	 * shorter than it should be, or damaged: it has logged which object). */
	int (*read)(void *ctx, uint64_t slice_id, uint32_t size, uint32_t off, uint32_t len, void *buf);
	/* The same if it needs no network, else -EAGAIN at once. May be NULL. */
	int (*try_read)(void *ctx, uint64_t slice_id, uint32_t size, uint32_t off, uint32_t len, void *buf);
	/* Closing down: reads that wait, and later ones, answer -EIO soon. */
	void (*cancel)(void *ctx);
	void *ctx;
};

#endif
