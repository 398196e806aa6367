#include "journal/evict.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#define BATCH_KEYS 1000

/* Hashes of what the log touched: keys, and inodes as "inode keys". A collision keeps one clean key too many. */
struct touched {
	uint64_t *slots;
	size_t n, mask;
};

struct sweep {
	struct journal *j;
	struct touched set;
	struct buf keys; /* of the current batch: be16 length, be16 value length (0: delete), key, value */
	size_t count;
	uint64_t dropped;
};

static int set_add(struct touched *t, uint64_t h)
{
	h |= 1;
	if (t->n * 2 >= t->mask) {
		struct touched old = *t;
		size_t room = t->mask ? (t->mask + 1) * 2 : 4096;

		t->slots = calloc(room, sizeof(*t->slots));
		if (!t->slots) {
			*t = old;
			return -ENOMEM;
		}
		t->mask = room - 1;
		t->n = 0;
		for (size_t i = 0; old.slots && i <= old.mask; i++)
			if (old.slots[i])
				set_add(t, old.slots[i]);
		free(old.slots);
	}
	size_t s = (h >> 7) & t->mask;
	while (t->slots[s] && t->slots[s] != h)
		s = (s + 1) & t->mask;
	if (!t->slots[s])
		t->n++;
	t->slots[s] = h;
	return 0;
}

static bool set_has(const struct touched *t, uint64_t h)
{
	h |= 1;
	for (size_t s = (h >> 7) & t->mask; t->slots && t->slots[s]; s = (s + 1) & t->mask)
		if (t->slots[s] == h)
			return true;
	return false;
}

static uint64_t hash_ino(uint64_t ino)
{
	struct jkey k;

	key_inode(&k, ino);
	return XXH3_64bits(k.b, k.len);
}

static int note_record(void *arg, uint64_t seq, const void *rec, size_t len)
{
	struct touched *t = arg;
	struct rec_reader it;
	struct rec_header h;
	struct rec_item item;
	int rc = rec_open(rec, len, &h, &it);

	(void)seq;
	while (!rc && (rc = rec_next(&it, &item)) == 1) {
		uint64_t ino;

		rc = item.klen ? set_add(t, XXH3_64bits(item.key, item.klen)) : 0;
		if (!rc && item.klen && item.key[0] != T_DENTRY && key_parse_ino(item.key, item.klen, &ino) == 0)
			rc = set_add(t, hash_ino(ino));
	}
	return rc;
}

/* Unlinked files that the kernel had open, and what still has to be reaped, are ours to finish. */
static int note_orphan(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	uint64_t ino;

	(void)val;
	(void)vlen;
	return key_parse_ino(key, klen, &ino) ? -EUCLEAN : set_add(arg, hash_ino(ino));
}

/* Commits the batch as one record. */
static int flush_batch(struct sweep *s)
{
	uint64_t seq;
	int rc;

	if (s->count == 0)
		return 0;
	if (s->keys.err)
		return s->keys.err;
	for (;;) {
		struct rd r;

		journal_lock(s->j);
		struct rec *rec = journal_begin(s->j, OP_EVICT);
		rd_init(&r, s->keys.data, s->keys.len);
		while (rd_left(&r) > 0) {
			struct jkey k;
			uint16_t vlen;

			k.len = rd_be16(&r);
			vlen = rd_be16(&r);
			memcpy(k.b, rd_bytes(&r, k.len), k.len);
			if (vlen)
				rec_put(rec, &k, rd_bytes(&r, vlen), vlen, 0);
			else
				rec_del(rec, &k, IF_FORGET);
		}
		rc = journal_commit(s->j, &seq);
		journal_unlock(s->j);
		if (rc != -EAGAIN)
			break;
		rc = journal_wait_room(s->j);
		if (rc)
			break;
	}
	s->dropped += s->count;
	s->count = 0;
	buf_reset(&s->keys);
	return rc;
}

static int add(struct sweep *s, const uint8_t *key, size_t klen, const void *val, size_t vlen)
{
	buf_put_be16(&s->keys, (uint16_t)klen);
	buf_put_be16(&s->keys, (uint16_t)vlen);
	buf_put(&s->keys, key, klen);
	buf_put(&s->keys, val, vlen);
	return ++s->count == BATCH_KEYS ? flush_batch(s) : 0;
}

static int sweep_key(void *arg, const uint8_t *key, size_t klen, const uint8_t *val, size_t vlen)
{
	struct sweep *s = arg;
	uint8_t out[INODE_VAL_MAX];
	struct inode_val v;
	uint64_t ino;

	if (key[0] == T_DENTRY || key[0] == T_XATTR || key[0] == T_SYMLINK)
		return set_has(&s->set, XXH3_64bits(key, klen)) ? 0 : add(s, key, klen, NULL, 0);
	if (key_parse_ino(key, klen, &ino))
		return -EUCLEAN;
	if (!set_has(&s->set, hash_ino(ino)))
		return add(s, key, klen, NULL, 0);
	if (key[0] != T_INODE)
		return 0;
	int rc = inode_val_decode(val, vlen, &v);
	if (rc || !(v.lflags & (IL_DIR_COMPLETE | IL_XATTR_COMPLETE | IL_PLAIN)))
		return rc;
	v.lflags &= (uint8_t)~(IL_DIR_COMPLETE | IL_XATTR_COMPLETE | IL_PLAIN);
	return add(s, key, klen, out, inode_val_encode(&v, out));
}

int journal_drop_clean(struct journal *j, uint64_t applied, uint64_t *dropped)
{
	static const uint8_t tables[] = {T_INODE, T_CHUNK, T_DENTRY, T_XATTR, T_SYMLINK, T_EXTENT, T_CUT, T_PUBLISHED, T_PARENT};
	static const uint8_t pending[] = {T_ORPHAN, T_REAP};
	struct sweep s = {.j = j};
	int rc;

	buf_init(&s.keys, 0);
	rc = journal_wait(j, WM_DURABLE, journal_mark(j, WM_COMMITTED));
	if (!rc)
		rc = journal_log_scan(j, applied, journal_mark(j, WM_DURABLE), note_record, &s.set);
	for (size_t i = 0; i < sizeof(pending) && !rc; i++)
		rc = journal_base_scan(j, &pending[i], 1, note_orphan, &s.set);
	for (size_t i = 0; i < sizeof(tables) && !rc; i++)
		rc = journal_base_scan(j, &tables[i], 1, sweep_key, &s);
	if (!rc)
		rc = flush_batch(&s);
	*dropped = s.dropped;
	free(s.set.slots);
	buf_fini(&s.keys);
	return rc;
}
