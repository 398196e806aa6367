#include "journal/syncframe.h"

#include <errno.h>
#include <string.h>
#include <xxhash.h>

static const uint8_t magic[7] = "jfssync";

enum { AT_SUM = 0, AT_MAGIC = 8, AT_VERSION = 15, AT_ID = 16, AT_LIFE = 48, AT_ANCHOR = 56, AT_FIRST = 64, AT_LAST = 72, AT_LEN = 80, HEADER = 88 };

/* Over the header behind the sum and all records; not over the padding. */
static uint64_t frame_sum(const uint8_t *p, size_t len)
{
	return XXH3_64bits(p + AT_MAGIC, HEADER - AT_MAGIC + len);
}

static size_t in_blocks(size_t len)
{
	return (HEADER + len + SYNC_BLOCK - 1) / SYNC_BLOCK * SYNC_BLOCK;
}

void sync_frame_begin(struct buf *b)
{
	buf_reset(b);
	buf_extend(b, HEADER);
}

void sync_frame_add(struct buf *b, const void *rec, size_t len)
{
	buf_put_be32(b, (uint32_t)len);
	buf_put(b, rec, len);
}

void sync_frame_finish(struct buf *b, const char id[32], const struct sync_frame *f)
{
	size_t len = b->len - HEADER;

	buf_extend(b, in_blocks(len) - b->len);
	if (b->err)
		return;
	memcpy(b->data + AT_MAGIC, magic, sizeof(magic));
	b->data[AT_VERSION] = SYNC_FRAME_VERSION;
	memcpy(b->data + AT_ID, id, 32);
	put_be64(b->data + AT_LIFE, f->life);
	put_be64(b->data + AT_ANCHOR, f->anchor);
	put_be64(b->data + AT_FIRST, f->first);
	put_be64(b->data + AT_LAST, f->last);
	put_be64(b->data + AT_LEN, len);
	put_be64(b->data + AT_SUM, frame_sum(b->data, len));
}

int sync_frame_read(const uint8_t *p, size_t n, const char id[32], struct sync_frame *out, size_t *size)
{
	uint64_t len;

	if (n < HEADER || memcmp(p + AT_MAGIC, magic, sizeof(magic)) != 0 || memcmp(p + AT_ID, id, 32) != 0)
		return -ENOENT;
	len = get_be64(p + AT_LEN);
	if (len > n - HEADER || in_blocks(len) > n || frame_sum(p, len) != get_be64(p + AT_SUM))
		return -ENOENT;
	if (p[AT_VERSION] != SYNC_FRAME_VERSION)
		return -ENOTSUP;
	*out = (struct sync_frame){.life = get_be64(p + AT_LIFE), .anchor = get_be64(p + AT_ANCHOR), .first = get_be64(p + AT_FIRST),
		.last = get_be64(p + AT_LAST), .records = p + HEADER, .len = len};
	*size = in_blocks(len);
	return 0;
}

uint8_t sync_frame_version(const uint8_t *p)
{
	return p[AT_VERSION];
}

int sync_frame_next(const struct sync_frame *f, size_t *at, const uint8_t **rec, size_t *len)
{
	if (*at == f->len)
		return 0;
	if (f->len - *at < 4)
		return -EUCLEAN;
	*len = get_be32(f->records + *at);
	if (*len > f->len - *at - 4)
		return -EUCLEAN;
	*rec = f->records + *at + 4;
	*at += 4 + *len;
	return 1;
}
