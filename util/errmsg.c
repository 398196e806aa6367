#include "util/errmsg.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int errmsg_set(struct errmsg *e, int err, const char *fmt, ...)
{
	va_list ap;

	if (!e)
		return err;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof(e->text), fmt, ap);
	va_end(ap);
	return err;
}

void errmsg_prefix(struct errmsg *e, const char *fmt, ...)
{
	char head[256], old[sizeof(((struct errmsg *)0)->text)];
	va_list ap;

	if (!e)
		return;
	va_start(ap, fmt);
	vsnprintf(head, sizeof(head), fmt, ap);
	va_end(ap);
	memcpy(old, e->text, sizeof(old));
	if ((size_t)snprintf(e->text, sizeof(e->text), "%s: %s", head, old) >= sizeof(e->text))
		e->text[sizeof(e->text) - 1] = 0;
}
