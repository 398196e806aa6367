/* The script's answer: a word, then what belongs to it (apply.lua's first lines list them). Nothing in it is trusted. */
#include "redis/script.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool reply_text(const redisReply *r, size_t i, char *out, size_t size)
{
	const redisReply *s = i < r->elements ? r->element[i] : NULL;

	if (!s || (s->type != REDIS_REPLY_STRING && s->type != REDIS_REPLY_STATUS) || (size_t)s->len >= size)
		return false;
	memcpy(out, s->str, (size_t)s->len);
	out[s->len] = '\0';
	return true;
}

static size_t reply_bytes(const redisReply *r, size_t i, uint8_t *out, size_t size)
{
	const redisReply *s = i < r->elements ? r->element[i] : NULL;
	size_t n = s && s->type == REDIS_REPLY_STRING ? (size_t)s->len : 0;

	n = n < size ? n : size;
	if (n)
		memcpy(out, s->str, n);
	return n;
}

int script_parse(const redisReply *r, struct script_answer *out)
{
	static const char *const names[] = { "OK", "GAP", "FENCED", "FORGOT", "NOKEY", "ENTRY", "EXISTS", "LIST", "GONE",
		"DEADREF", "BAD" };
	char word[16], num[2][24];
	size_t i;

	memset(out, 0, sizeof(*out));
	if (!r || r->type != REDIS_REPLY_ARRAY || !reply_text(r, 0, word, sizeof(word)))
		return -EPROTO;
	for (i = 0; i < sizeof(names) / sizeof(names[0]) && strcmp(names[i], word) != 0; i++)
		;
	out->status = (enum script_status)i;
	if (i == sizeof(names) / sizeof(names[0]))
		return -EPROTO;
	if (i == SCRIPT_GAP || i == SCRIPT_FENCED || i == SCRIPT_FORGOT) {
		if (!reply_text(r, 1, num[0], sizeof(num[0])) || !reply_text(r, 2, num[1], sizeof(num[1])) ||
			!reply_text(r, 3, out->pos.chain, sizeof(out->pos.chain)))
			return -EPROTO;
		out->pos.epoch = strtoull(num[0], NULL, 10);
		out->pos.seq = strtoull(num[1], NULL, 10);
		return 0;
	}
	if (i > SCRIPT_NOKEY && !reply_text(r, 1, out->key, sizeof(out->key)))
		return -EPROTO;
	out->field_len = reply_bytes(r, 2, out->field, sizeof(out->field) - 1);
	out->value_len = reply_bytes(r, 3, out->value, sizeof(out->value));
	return 0;
}
