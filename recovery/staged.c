#include "recovery/staged.h"

void staged_free(struct staged_set *s)
{
	vec_free(&s->refs);
	vec_free(&s->slices);
}

#define COMPARE(field)                                                                                                \
	if (x->field != y->field)                                                                                     \
	return x->field > y->field ? 1 : -1

static int cmp_ref(const void *a, const void *b)
{
	const struct staged_ref *x = a, *y = b;

	COMPARE(segment);
	COMPARE(run_off);
	COMPARE(run_len);
	COMPARE(sum);
	COMPARE(ino);
	COMPARE(file_off);
	return 0;
}

static int cmp_slice(const void *a, const void *b)
{
	const struct staged_slice *x = a, *y = b;

	COMPARE(segment);
	COMPARE(off);
	return 0;
}

void staged_sort(struct staged_set *s)
{
	vec_sort(&s->refs, cmp_ref);
	vec_sort(&s->slices, cmp_slice);
}

bool staged_same_run(const struct staged_ref *a, const struct staged_ref *b)
{
	return a->segment == b->segment && a->run_off == b->run_off && a->run_len == b->run_len && a->sum == b->sum;
}

uint32_t staged_unsafe(const struct staged_set *s, const struct staged_ref *r, uint64_t applied)
{
	uint64_t from = r->off, end = (uint64_t)r->off + r->len, left = r->len;
	size_t lo = 0, hi = s->slices.n;

	/* The last slice that begins at or before the ref; slices of a segment do not overlap. */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct staged_slice *m = &s->slices.v[mid];

		if (m->segment < r->segment || (m->segment == r->segment && m->off <= r->off))
			lo = mid + 1;
		else
			hi = mid;
	}
	for (size_t i = lo ? lo - 1 : 0; i < s->slices.n; i++) {
		const struct staged_slice *m = &s->slices.v[i];
		uint64_t a = m->off, b = (uint64_t)m->off + m->len;

		if (m->segment > r->segment || (m->segment == r->segment && a >= end))
			break;
		if (m->segment != r->segment || b <= from || m->window_end > applied)
			continue;
		left -= (b < end ? b : end) - (a > from ? a : from);
	}
	return (uint32_t)left;
}
