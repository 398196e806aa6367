/* See ring_wire.h. */
#include "daemon/ring_wire.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>

enum { KERNEL_PAGE = 4096, DEFAULT_PAGES = 32, LEAST_PAYLOAD = FUSE_MIN_READ_BUFFER };

void *ring_request_join(const struct ring_head *h, void *payload, size_t payload_max, size_t *len)
{
	struct fuse_in_header in;
	size_t fixed;
	uint8_t *start;

	memcpy(&in, h->in_out, sizeof(in));
	if (h->payload_size > payload_max || in.len < sizeof(in) + h->payload_size)
		return NULL;
	fixed = in.len - sizeof(in) - h->payload_size;
	if (fixed > sizeof(h->op_in) || fixed % 8) /* libfuse reads structs where they lie */
		return NULL;
	start = (uint8_t *)payload - fixed - sizeof(in);
	memcpy(start, &in, sizeof(in));
	memcpy(start + sizeof(in), h->op_in, fixed);
	*len = in.len;
	return start;
}

void ring_reply_split(struct ring_head *h, void *payload, size_t payload_max, const struct iovec *iov, int count)
{
	struct fuse_out_header out;
	size_t n = 0;

	_Static_assert(offsetof(struct fuse_out_header, unique) == offsetof(struct fuse_in_header, unique),
		"the same place in both");
	memcpy(&out, iov[0].iov_base, sizeof(out));
	for (int i = 1; i < count; i++) {
		uint8_t *dst = (uint8_t *)payload + n;

		if (iov[i].iov_len > payload_max - n) {
			out.error = -EIO;
			n = 0;
			break;
		}
		if (iov[i].iov_base != dst)
			memmove(dst, iov[i].iov_base, iov[i].iov_len);
		n += iov[i].iov_len;
	}
	out.len = (uint32_t)(sizeof(out) + n);
	/* `unique` is there: it came with the request. */
	memcpy(h->in_out, &out, offsetof(struct fuse_out_header, unique));
	h->flags = 0;
	h->payload_size = (uint32_t)n;
}

uint64_t init_offer(const void *body, size_t len)
{
	struct fuse_init_in in = { 0 };

	if (len < offsetof(struct fuse_init_in, flags2))
		return 0;
	memcpy(&in, body, len < sizeof(in) ? len : sizeof(in));
	return in.flags | (in.flags & FUSE_INIT_EXT ? (uint64_t)in.flags2 << 32 : 0);
}

size_t init_reply_payload(const void *body, size_t len)
{
	struct fuse_init_out out;
	size_t size, pages;

	if (len < sizeof(out))
		return SIZE_MAX;
	memcpy(&out, body, sizeof(out));
	pages = out.flags & FUSE_MAX_PAGES ? out.max_pages : DEFAULT_PAGES;
	size = out.max_write > LEAST_PAYLOAD ? out.max_write : LEAST_PAYLOAD;
	return size > pages * KERNEL_PAGE ? size : pages * KERNEL_PAGE;
}
