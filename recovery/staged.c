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
	uint64_t at = r->off, end = (uint64_t)r->off + r->len;
	size_t lo = 0, hi = s->slices.n;
	uint32_t left = r->len;

	/* The first that begins in the run: a slice's piece lies in one run. Bytes may be in several (a copy that was uploaded). */
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;
		const struct staged_slice *m = &s->slices.v[mid];

		if (m->segment < r->segment || (m->segment == r->segment && m->off < r->run_off))
			lo = mid + 1;
		else
			hi = mid;
	}
	for (size_t i = lo; i < s->slices.n; i++) {
		const struct staged_slice *m = &s->slices.v[i];
		uint64_t from = m->off > at ? m->off : at, to = (uint64_t)m->off + m->len;

		if (m->segment != r->segment || m->off >= end)
			break;
		if (m->window_end > applied || to <= at)
			continue;
		to = to < end ? to : end;
		left -= (uint32_t)(to - from);
		at = to; /* up to here nothing more is to be counted */
	}
	return left;
}
