#include "recovery/paths.h"

#include <errno.h>
#include <inttypes.h>

#include "recovery/vec.h"
#include "util/jfsfmt.h"

#define DEPTH_MAX 2048

struct place {
	uint64_t ino, parent;
	uint32_t at, len; /* name: bytes [at, at + len) of `names` */
};

struct paths {
	VEC(uint64_t) wanted;
	VEC(struct place) places;
	struct buf names;
	bool wanted_sorted;
};

struct paths *paths_new(void)
{
	struct paths *p = calloc(1, sizeof(*p));

	if (p)
		buf_init(&p->names, (size_t)3 << 30);
	return p;
}

void paths_free(struct paths *p)
{
	if (!p)
		return;
	vec_free(&p->wanted);
	vec_free(&p->places);
	buf_fini(&p->names);
	free(p);
}

static int cmp_u64(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int cmp_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	return x->ino != y->ino ? (x->ino > y->ino) - (x->ino < y->ino) : (x->at > y->at) - (x->at < y->at);
}

int paths_want(struct paths *p, uint64_t ino)
{
	uint64_t *w = vec_add(&p->wanted);

	if (!w)
		return -ENOMEM;
	*w = ino;
	p->wanted_sorted = false;
	return 0;
}

static bool is_wanted(struct paths *p, uint64_t ino)
{
	if (!p->wanted_sorted) {
		vec_sort(&p->wanted, cmp_u64);
		p->wanted_sorted = true;
	}
	return p->wanted.n && bsearch(&ino, p->wanted.v, p->wanted.n, sizeof(ino), cmp_u64);
}

int paths_feed(struct paths *p, uint64_t parent, const void *name, size_t n, bool dir, uint64_t ino)
{
	struct place *at;

	if (!dir && !is_wanted(p, ino))
		return 0;
	at = vec_add(&p->places);
	if (!at)
		return -ENOMEM;
	*at = (struct place){.ino = ino, .parent = parent, .at = (uint32_t)p->names.len, .len = (uint32_t)n};
	buf_put(&p->names, name, n);
	return p->names.err ? -ENOMEM : 0;
}

void paths_done(struct paths *p)
{
	vec_sort(&p->places, cmp_place);
}

static const struct place *find(const struct paths *p, uint64_t ino)
{
	size_t lo = 0, hi = p->places.n;

	while (lo < hi) { /* the first of several */
		size_t mid = lo + (hi - lo) / 2;

		if (p->places.v[mid].ino < ino)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->places.n && p->places.v[lo].ino == ino ? &p->places.v[lo] : NULL;
}

bool paths_of(const struct paths *p, uint64_t ino, struct buf *out)
{
	const struct place *way[DEPTH_MAX];
	size_t n = 0;
	bool whole;

	while (ino != JFS_ROOT_INODE && ino != JFS_TRASH_INODE && n < DEPTH_MAX) {
		const struct place *at = find(p, ino);

		if (!at)
			break;
		way[n++] = at;
		ino = at->parent;
	}
	whole = ino == JFS_ROOT_INODE || ino == JFS_TRASH_INODE;
	if (ino == JFS_TRASH_INODE)
		buf_puts(out, "/" JFS_TRASH_NAME);
	else if (!whole)
		buf_printf(out, "<inode %" PRIu64 ">", ino);
	else if (n == 0)
		buf_puts(out, "/");
	while (n-- > 0) {
		buf_puts(out, "/");
		text_escape(p->names.data + way[n]->at, way[n]->len, out);
	}
	return whole;
}

bool paths_of_entry(const struct paths *p, uint64_t parent, const void *name, size_t n, struct buf *out)
{
	bool whole = true;

	if (parent != JFS_ROOT_INODE)
		whole = paths_of(p, parent, out);
	buf_puts(out, "/");
	text_escape(name, n, out);
	return whole;
}

/* Length of the well-formed UTF-8 sequence at s, 0 if there is none. */
static size_t utf8_len(const uint8_t *s, size_t n)
{
	size_t want = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] <= 0xdf ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : 0;

	if (want == 0 || want > n)
		return 0;
	for (size_t i = 1; i < want; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	/* overlong forms, surrogates, beyond U+10FFFF */
	if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
		(s[0] == 0xf4 && s[1] > 0x8f))
		return 0;
	return want;
}

void text_escape(const void *text, size_t n, struct buf *out)
{
	const uint8_t *s = text;

	while (n > 0) {
		size_t len = utf8_len(s, n);

		/* C1 controls are two bytes, c2 80 .. c2 9f */
		if (len == 0 || (len == 1 && (s[0] < 0x20 || s[0] == 0x7f || s[0] == '\\')) ||
			(len == 2 && s[0] == 0xc2 && s[1] < 0xa0)) {
			buf_printf(out, "\\%03o", s[0]);
			len = 1;
		} else {
			buf_put(out, s, len);
		}
		s += len;
		n -= len;
	}
}

static bool octal(const char *p)
{
	return p[0] >= '0' && p[0] <= '3' && p[1] >= '0' && p[1] <= '7' && p[2] >= '0' && p[2] <= '7';
}

int text_unescape(const char *p, size_t n, char out[256])
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		char c = p[i];

		if (c == '\\' && n - i > 3 && octal(p + i + 1)) {
			c = (char)((p[i + 1] - '0') << 6 | (p[i + 2] - '0') << 3 | (p[i + 3] - '0'));
			i += 3;
		}
		if (c == '/' || c == '\0' || len == 255)
			return -EINVAL;
		out[len++] = c;
	}
	out[len] = '\0';
	return len == 0 || strcmp(out, ".") == 0 || strcmp(out, "..") == 0 ? -EINVAL : 0;
}
