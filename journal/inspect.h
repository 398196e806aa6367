/* A journal without its daemon, as the next one will find it: for tools that must not change it (jfs-recover check).
 *
 * Base is opened read-only, and the records of the hot logs and of the sync log that base does not have are laid over it in
 * memory, in the order and as far as recovery would take them; so the view (journal.h) is what a mount would show. The lock of the cache
 * directory is held until journal_close, so no daemon starts meanwhile. Staged bytes are not read here, but
 * for those of the sync log's last frame. */
#ifndef JFS_JOURNAL_INSPECT_H
#define JFS_JOURNAL_INSPECT_H

#include "journal/journal.h"

struct inspect {
	bool clean, moved;
	bool hot_found;	 /* the hot directory of this boot is there; unclean without it: a power cut */
	char hot[512];	 /* where it is, or would be */
	uint64_t flushed_g, durable, trimmed;
	uint64_t hot_records; /* taken over base, also from the sync log */
	uint64_t hot_bad;     /* that recovery would set aside */
	char first_bad[256];
	int64_t space, inodes;
};

/* Uses cache_dir, hot_dir (NULL: the one that the daemon noted) and allow_any_fs of the config. -EBUSY: a daemon lives
 * (the text names its pid); -ENOENT: no journal; -EUCLEAN: base or the identity is damaged. Close it with journal_close. */
int journal_inspect(const struct journal_config *cfg, struct journal **out, struct inspect *rep, struct errmsg *e);
/* Calls fn for the records that were taken from the hot logs and the sync log, in order; stops at its first non-zero answer. */
int journal_inspect_hot(struct journal *j, int (*fn)(void *arg, uint64_t seq, const void *rec, size_t len), void *arg);

#endif
