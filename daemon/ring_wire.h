/* What FUSE requests and replies look like in an entry of an io_uring queue, and what INIT says about it.
 *
 * The kernel (6.14 and later) hands a request over in two buffers: a header that holds the request's own header and the
 * fixed part of its arguments, and a payload with the rest (names, written bytes). libfuse wants all of it in one piece;
 * copied to where the payload begins, the fixed parts make one, and the payload stays where it is. A reply goes back in the
 * same two buffers. Everything here is pure. Layouts: include/uapi/linux/fuse.h of Linux 6.14, "io-uring"; Debian 12's
 * header is older. */
#ifndef JFS_DAEMON_RING_WIRE_H
#define JFS_DAEMON_RING_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

enum { RING_PART = 128 }; /* of each of the two fixed parts */

struct ring_head {
	_Alignas(8) uint8_t in_out[RING_PART]; /* struct fuse_in_header, then struct fuse_out_header */
	_Alignas(8) uint8_t op_in[RING_PART];  /* the first argument */
	uint64_t flags;
	uint64_t commit_id; /* names the request when its reply is committed; never 0 */
	uint32_t payload_size;
	uint32_t padding;
	uint64_t reserved;
};

/* In a submission's 80 bytes of command. */
struct ring_command {
	uint64_t flags;
	uint64_t commit_id;
	uint16_t queue;
	uint8_t padding[6];
};
enum { RING_REGISTER = 1, RING_COMMIT_AND_FETCH = 2 };

/* Bytes below the payload that ring_request_join may use. */
#define RING_ROOM 256

_Static_assert(sizeof(struct ring_head) == 288 && sizeof(struct ring_command) == 24, "the kernel's layout");

/* One piece of what came in `h` and `payload` (room for payload_max bytes, aligned to 8, with RING_ROOM bytes below that are
 * ours). Returns its start and sets *len; NULL when the sizes do not fit together. */
void *ring_request_join(const struct ring_head *h, void *payload, size_t payload_max, size_t *len);
/* Puts the reply (iov[0] is its struct fuse_out_header) to the request that is in the entry there. A reply that does not fit
 * becomes EIO. What is in the payload already, at its place, is not copied. */
void ring_reply_split(struct ring_head *h, void *payload, size_t payload_max, const struct iovec *iov, int count);

/* All 64 flags of an INIT request's body. */
uint64_t init_offer(const void *body, size_t len);
#define INIT_OVER_IO_URING (1ull << 41)
/* The largest payload that the kernel will demand of an entry after this INIT reply. Too short a body: SIZE_MAX. */
size_t init_reply_payload(const void *body, size_t len);

#endif
