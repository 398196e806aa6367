/* The S3 back end against a peer that follows a script: what a real server cannot be made to do on demand. The peer is
 * a thread on a loopback socket; connection n gets the n-th reply of the script (the last one for all that follow). */
#include "tests/unit/unit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "s3/object.h"
#include "util/clock.h"
#include "util/log.h"

enum reply_kind { SEND, STALL, RESET, HOLD };

struct reply {
	enum reply_kind kind;
	const char *text; /* SEND: the bytes, after which the connection is closed */
};

struct peer {
	int listener, port, wake[2];
	pthread_t thread;
	const struct reply *script;
	atomic_int served;
	char request[4096]; /* the last one's head; read after peer_stop */
};

/* Reads a head and the body that Content-Length announces. False: the client went away. */
static bool request_read(struct peer *p, int fd)
{
	size_t n = 0, need = 0;
	static char body[1 << 16];

	for (;;) {
		ssize_t got = need ? recv(fd, body, need < sizeof(body) ? need : sizeof(body), 0)
				   : recv(fd, p->request + n, sizeof(p->request) - 1 - n, 0);

		if (got <= 0)
			return false;
		if (need) {
			need -= (size_t)got;
			if (!need)
				return true;
			continue;
		}
		n += (size_t)got;
		p->request[n] = 0;
		char *end = strstr(p->request, "\r\n\r\n"), *length = strcasestr(p->request, "\r\nContent-Length:");
		if (!end)
			continue;
		size_t want = length && length < end ? strtoul(length + 17, NULL, 10) : 0, have = n - (size_t)(end + 4 - p->request);
		if (have >= want)
			return true;
		need = want - have;
	}
}

static void reply_do(struct peer *p, int fd, const struct reply *r)
{
	struct pollfd w[2] = {{p->wake[0], POLLIN, 0}, {fd, POLLIN, 0}};
	struct linger hard = {1, 0};

	if (r->kind == SEND && send(fd, r->text, strlen(r->text), MSG_NOSIGNAL) < 0)
		perror("peer send");
	if (r->kind == RESET)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	if (r->kind == STALL || r->kind == HOLD)
		poll(w, 2, -1); /* until the client gives up or the test ends */
	if (r->kind == HOLD && w[0].revents && send(fd, r->text, strlen(r->text), MSG_NOSIGNAL) < 0)
		perror("peer send");
}

static void *peer_run(void *arg)
{
	struct peer *p = arg;
	const struct reply *r = p->script;

	for (;;) {
		struct pollfd w[2] = {{p->wake[0], POLLIN, 0}, {p->listener, POLLIN, 0}};

		poll(w, 2, -1);
		if (w[0].revents)
			return NULL;
		int fd = accept(p->listener, NULL, NULL);
		if (fd < 0)
			continue;
		if (request_read(p, fd)) {
			p->served++;
			reply_do(p, fd, r);
			if (r[1].text)
				r++;
		}
		shutdown(fd, SHUT_WR);
		close(fd);
	}
}

static void peer_start(struct peer *p, const struct reply *script)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);

	memset(p, 0, sizeof(*p));
	p->script = script;
	p->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	REQUIRE(p->listener >= 0 && bind(p->listener, (struct sockaddr *)&a, n) == 0 && listen(p->listener, 64) == 0);
	REQUIRE(getsockname(p->listener, (struct sockaddr *)&a, &n) == 0 && pipe(p->wake) == 0);
	p->port = ntohs(a.sin_port);
	REQUIRE(pthread_create(&p->thread, NULL, peer_run, p) == 0);
}

static void peer_wake(struct peer *p)
{
	REQUIRE(write(p->wake[1], "x", 1) == 1);
}

static void peer_stop(struct peer *p)
{
	peer_wake(p);
	pthread_join(p->thread, NULL);
	close(p->listener);
	close(p->wake[0]);
	close(p->wake[1]);
}

/* With the limits of `cfg`. */
static struct obj_store *store_open_as(int port, struct obj_config cfg)
{
	struct obj_store *st = NULL;
	struct errmsg e;
	char bucket[80];

	snprintf(bucket, sizeof(bucket), "http://127.0.0.1:%d/bucket", port);
	cfg.storage = "s3";
	cfg.bucket = bucket;
	cfg.access_key = "AK";
	cfg.secret_key = "topsecret";
	cfg.session_token = "tok en";
	REQUIRE(obj_store_open(&cfg, &st, &e) == 0);
	return st;
}

static struct obj_store *store_open(int port, unsigned retries, unsigned timeout_ms, unsigned parallel)
{
	const struct obj_config cfg = {.retries = retries, .timeout_ms = timeout_ms, .max_parallel = parallel};

	return store_open_as(port, cfg);
}

#define OK_HELLO "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-amz-meta-crc32c: 2591144780\r\n\r\nhello"

/* GET of "hello" that must come out as `want` after `tries` tries. */
static void check_get(const struct reply *script, unsigned retries, unsigned timeout_ms, int want, int tries,
	const char *text)
{
	struct obj_store *st;
	struct errmsg e = {""};
	uint8_t *data = NULL;
	struct peer p;
	size_t n = 0;

	peer_start(&p, script);
	st = store_open(p.port, retries, timeout_ms, 4);
	CHECK_EQ(obj_get(st, "vol/key", &data, &n, &e), want);
	CHECK(want || (n == 5 && memcmp(data, "hello", 5) == 0));
	CHECK_EQ(p.served, tries);
	if (text && !strstr(e.text, text)) {
		fprintf(stderr, "message: %s\n", e.text);
		CHECK(!"the message says why");
	}
	CHECK(!strstr(e.text, "topsecret") && !strstr(e.text, "tok en"));
	free(data);
	obj_store_close(st);
	peer_stop(&p);
	CHECK(strstr(p.request, "GET /bucket/vol/key HTTP/1.1\r\n"));
	CHECK(strstr(p.request, "\r\nx-amz-security-token: tok en\r\n"));
}

#define BUSY "HTTP/1.1 500 x\r\nContent-Length: 0\r\n\r\n"
#define XML(status, code) "HTTP/1.1 " status "\r\nConnection: close\r\n\r\n<?xml version='1.0'?><Error><Code>" code \
	"</Code><Message>m &amp; n</Message></Error>"

static void errors_that_pass_are_retried(void)
{
	const struct reply busy[] = {{SEND, BUSY}, {SEND, XML("503 x", "InternalError")}, {SEND, OK_HELLO}, {0}};
	const struct reply reset[] = {{RESET, ""}, {SEND, OK_HELLO}, {0}};
	const struct reply closed[] = {{SEND, ""}, {SEND, OK_HELLO}, {0}};
	const struct reply cut[] = {{SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"}, {SEND, OK_HELLO}, {0}};
	const struct reply garbage[] = {{SEND, "SSH-2.0-OpenSSH\r\n\r\n"}, {SEND, OK_HELLO}, {0}};
	const struct reply damaged[] = {{SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Amz-Meta-Crc32c: 1\r\n\r\nhello"},
		{SEND, OK_HELLO}, {0}};
	const struct reply stall[] = {{STALL, ""}, {SEND, OK_HELLO}, {0}};

	check_get(busy, 3, 10000, 0, 3, NULL);
	check_get(reset, 3, 10000, 0, 2, NULL);
	check_get(closed, 3, 10000, 0, 2, NULL);
	check_get(cut, 3, 10000, 0, 2, NULL);
	check_get(garbage, 3, 10000, 0, 2, NULL);
	check_get(damaged, 3, 10000, 0, 2, NULL);
	check_get(stall, 3, 300, 0, 2, NULL);
}

static void and_given_up_in_the_end(void)
{
	const struct reply busy[] = {{SEND, BUSY}, {0}};
	const struct reply cut[] = {{SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"}, {0}};
	const struct reply damaged[] = {{SEND, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nx-amz-meta-crc32c: 1\r\n\r\nhello"},
		{0}};
	const struct reply stall[] = {{STALL, ""}, {0}};

	check_get(busy, 2, 10000, -EIO, 3, "HTTP 500");
	check_get(cut, 1, 10000, -EIO, 2, "vol/key");
	check_get(damaged, 1, 10000, -EBADMSG, 2, "checksum");
	check_get(stall, 1, 200, -ETIMEDOUT, 2, "timed out");
}

static void final_answers_are_not_retried(void)
{
	const struct reply missing[] = {{SEND, XML("404 x", "NoSuchKey")}, {0}};
	const struct reply bucket[] = {{SEND, XML("404 x", "NoSuchBucket")}, {0}};
	const struct reply key[] = {{SEND, XML("403 x", "InvalidAccessKeyId")}, {0}};
	const struct reply secret[] = {{SEND, XML("403 x", "SignatureDoesNotMatch")}, {0}};
	const struct reply skew[] = {{SEND, XML("403 x\r\nDate: Fri, 24 May 2013 00:00:00 GMT", "RequestTimeTooSkewed")}, {0}};
	const struct reply plain[] = {{SEND, "HTTP/1.1 403 x\r\nDate: Fri, 24 May 2013 00:00:00 GMT\r\n\r\n"}, {0}};
	const struct reply region[] = {{SEND, XML("301 x\r\nx-amz-bucket-region: mars-1", "PermanentRedirect")}, {0}};
	const struct reply odd[] = {{SEND, XML("400 x", "Odd")}, {0}};

	check_get(missing, 3, 10000, -ENOENT, 1, "HTTP 404 NoSuchKey: m & n");
	check_get(bucket, 3, 10000, -ENODEV, 1, "bucket does not exist");
	check_get(key, 3, 10000, -EACCES, 1, "access key");
	check_get(secret, 3, 10000, -EACCES, 1, "secret key do not match");
	check_get(skew, 3, 10000, -EACCES, 1, "clock of this machine is wrong");
	check_get(plain, 3, 10000, -EACCES, 1, "clock of this machine differs");
	check_get(region, 3, 10000, -EINVAL, 1, "another region: mars-1");
	check_get(odd, 3, 10000, -EIO, 1, "HTTP 400 Odd");
}

static void slow_down_is_honoured(void)
{
	const struct reply script[] = {{SEND, XML("503 x\r\nRetry-After: 1", "SlowDown")}, {SEND, OK_HELLO}, {0}};
	uint64_t start = clock_mono_ms();

	check_get(script, 3, 10000, 0, 2, NULL);
	CHECK(clock_mono_ms() - start >= 1000);
}

static void ranges(void)
{
	const struct reply ignored[] = {{SEND, OK_HELLO}, {0}};
	const struct reply behind[] = {{SEND, "HTTP/1.1 416 x\r\nContent-Length: 3\r\n\r\nxml"}, {0}};
	const struct reply too_long[] = {{SEND, "HTTP/1.1 206 x\r\nContent-Length: 5\r\n\r\nhello"}, {0}};
	const struct reply *scripts[] = {ignored, behind, too_long};
	const int want[] = {0, 0, -EBADMSG}, length[] = {3, 0, 0};

	for (int i = 0; i < 3; i++) {
		struct obj_store *st;
		uint8_t *data = NULL;
		struct errmsg e;
		struct peer p;
		size_t n = 0;

		peer_start(&p, scripts[i]);
		st = store_open(p.port, 0, 10000, 4);
		CHECK_EQ(obj_get_range(st, "k", 1, 3, &data, &n, &e), want[i]);
		CHECK_EQ(n, length[i]);
		CHECK(i != 0 || memcmp(data, "ell", 3) == 0);
		free(data);
		obj_store_close(st);
		peer_stop(&p);
		CHECK(strstr(p.request, "\r\nRange: bytes=1-3\r\n"));
	}
}

static void put_says_its_checksum(void)
{
	const struct reply script[] = {{SEND, BUSY}, {SEND, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, {0}};
	struct obj_store *st;
	struct errmsg e;
	struct peer p;

	peer_start(&p, script);
	st = store_open(p.port, 1, 10000, 4);
	CHECK_EQ(obj_put(st, "vol/a b+c", "123456789", 9, &e), 0);
	obj_store_close(st);
	peer_stop(&p);
	CHECK(strstr(p.request, "PUT /bucket/vol/a%20b%2Bc HTTP/1.1\r\n"));
	CHECK(strstr(p.request, "\r\nx-amz-meta-crc32c: 3808858755\r\n"));
	CHECK(strstr(p.request, "\r\nContent-Type: application/octet-stream\r\n"));
	CHECK(strstr(p.request, "\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"));
	CHECK(strstr(p.request, "SignedHeaders=host;x-amz-content-sha256;x-amz-date;x-amz-meta-crc32c;x-amz-security-token,"));
	CHECK(!strstr(p.request, "Expect:"));
}

static int key_add(void *arg, const char *key, uint64_t size, int64_t mtime)
{
	(void)mtime;
	snprintf((char *)arg + strlen(arg), 40, "%s=%d ", key, (int)size);
	return 0;
}

#define LIST(inner) "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListBucketResult>" inner "</ListBucketResult>"
#define ITEM(key) "<Contents><Key>" key "</Key><Size>3</Size></Contents>"

static void lists_page_by_page(void)
{
	const struct reply script[] = {
		{SEND, LIST("<IsTruncated>true</IsTruncated><NextContinuationToken>t/1+</NextContinuationToken>" ITEM("p/a"))},
		{SEND, BUSY}, {SEND, LIST("<IsTruncated>false</IsTruncated>" ITEM("p/b"))}, {0}};
	const struct reply endless[] = {
		{SEND, LIST("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")}, {0}};
	struct obj_store *st;
	char keys[128] = "";
	struct errmsg e;
	struct peer p;

	peer_start(&p, script);
	st = store_open(p.port, 1, 10000, 4);
	CHECK_EQ(obj_list(st, "p/", key_add, keys, &e), 0);
	CHECK_STR(keys, "p/a=3 p/b=3 ");
	obj_store_close(st);
	peer_stop(&p);
	CHECK(strstr(p.request, "GET /bucket?continuation-token=t%2F1%2B&encoding-type=url&list-type=2&max-keys=1000&prefix=p%2F "));
	peer_start(&p, endless);
	st = store_open(p.port, 1, 10000, 4);
	CHECK_EQ(obj_list(st, "p/", key_add, keys, &e), -EBADMSG);
	obj_store_close(st);
	peer_stop(&p);
}

static void a_dead_server_is_named(void)
{
	struct obj_store *st;
	struct errmsg e;
	struct peer p;
	char address[40];

	peer_start(&p, (const struct reply[]){{SEND, BUSY}, {0}});
	peer_stop(&p);
	st = store_open(p.port, 1, 10000, 4);
	CHECK_EQ(obj_check(st, "vol", &e), -ECONNREFUSED);
	snprintf(address, sizeof(address), "http://127.0.0.1:%d", p.port);
	CHECK(strstr(e.text, address) && strstr(e.text, "object storage check"));
	obj_store_close(st);
}

struct order {
	pthread_mutex_t lock;
	int done, canceled, first_interactive;
};

struct one {
	struct order *order;
	bool interactive;
};

static void order_done(void *arg, const struct obj_result *res)
{
	struct one *o = arg;

	pthread_mutex_lock(&o->order->lock);
	if (!res->err && o->interactive)
		o->order->first_interactive = o->order->done;
	o->order->done += !res->err;
	o->order->canceled += res->err == -ECANCELED;
	pthread_mutex_unlock(&o->order->lock);
	free(o);
}

static void submit_one(struct obj_store *st, struct order *order, enum obj_op op, bool interactive)
{
	struct one *o = malloc(sizeof(*o));

	REQUIRE(o);
	*o = (struct one){order, interactive};
	struct obj_request req = {.op = op, .key = "k", .data = "v", .len = op == OBJ_PUT, .interactive = interactive, .done = order_done,
		.arg = o};
	CHECK_EQ(obj_submit(st, &req), 0);
}

static void submit_get(struct obj_store *st, struct order *order, bool interactive)
{
	submit_one(st, order, OBJ_GET, interactive);
}

/* One request is held by the peer; the rest is queued when the store is closed from another thread. */
static void *close_run(void *st)
{
	obj_store_close(st);
	return NULL;
}

static void closing_cancels_what_is_queued(void)
{
	const struct reply script[] = {{HOLD, OK_HELLO}, {0}};
	struct order order = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct obj_store *st;
	pthread_t closer;
	struct peer p;
	int canceled, done;

	peer_start(&p, script);
	const struct obj_config limits = {.retries = 5, .timeout_ms = 30000, .max_parallel = 4, .max_downloads = 1};
	st = store_open_as(p.port, limits);
	submit_get(st, &order, false);
	while (p.served == 0)
		poll(NULL, 0, 1);
	for (int i = 0; i < 10; i++)
		submit_get(st, &order, i & 1);
	REQUIRE(pthread_create(&closer, NULL, close_run, st) == 0);
	do {
		poll(NULL, 0, 1);
		pthread_mutex_lock(&order.lock);
		canceled = order.canceled;
		done = order.done;
		pthread_mutex_unlock(&order.lock);
	} while (canceled < 10);
	CHECK_EQ(done, 0);
	peer_wake(&p); /* now the one in flight is answered */
	pthread_join(closer, NULL);
	CHECK(order.done == 1 && order.canceled == 10 && p.served == 1);
	peer_stop(&p);
}

/* A request is held by the peer, others are queued, then the store is stopped. Closed at the end; how many were cancelled. */
static int stopped_with(enum obj_op op, struct peer *p, struct order *order)
{
	const struct obj_config limits = {.retries = 5, .timeout_ms = 30000, .max_parallel = 1, .max_downloads = 1};
	struct obj_store *st = store_open_as(p->port, limits);
	uint64_t began = clock_mono_ms();
	struct errmsg e;
	uint8_t *data;
	size_t len;

	submit_one(st, order, op, false);
	while (p->served == 0)
		poll(NULL, 0, 1);
	for (int i = 0; i < 10; i++)
		submit_one(st, order, op, i & 1);
	obj_store_stop(st);
	CHECK_EQ(obj_get(st, "k", &data, &len, &e), -ECANCELED); /* what comes; and what came before is answered by then */
	pthread_mutex_lock(&order->lock);
	CHECK_EQ(order->done, 0);
	CHECK_EQ(order->canceled, op == OBJ_GET ? 11 : 10);
	pthread_mutex_unlock(&order->lock);
	if (op == OBJ_PUT)
		peer_wake(p); /* what was being written is awaited */
	obj_store_close(st);
	CHECK(clock_mono_ms() - began < 15000 && p->served == 1);
	return order->canceled;
}

static void stopping_does_not_wait_for_a_silent_server(void)
{
	static const struct reply script[] = {{HOLD, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}, {0}};
	struct order reads = {.lock = PTHREAD_MUTEX_INITIALIZER}, writes = {.lock = PTHREAD_MUTEX_INITIALIZER};
	struct peer p;

	peer_start(&p, script);
	CHECK_EQ(stopped_with(OBJ_GET, &p, &reads), 11);
	peer_stop(&p);
	peer_start(&p, script);
	CHECK_EQ(stopped_with(OBJ_PUT, &p, &writes), 10);
	CHECK_EQ(writes.done, 1);
	peer_stop(&p);
}

/* The message says after how many milliseconds. */
static void reading_has_a_time_of_its_own(void)
{
	const struct reply script[] = {{STALL, ""}, {0}};
	const struct obj_config limits = {.timeout_ms = 60000, .get_timeout_ms = 100, .max_parallel = 1};
	struct errmsg e = {""};
	uint8_t *data = NULL;
	struct peer p;
	size_t n;

	peer_start(&p, script);
	struct obj_store *st = store_open_as(p.port, limits);
	CHECK_EQ(obj_get(st, "vol/key", &data, &n, &e), -ETIMEDOUT);
	const char *after = strstr(e.text, "after ");
	REQUIRE(after);
	CHECK(atoi(after + 6) >= 100 && atoi(after + 6) < 60000);
	obj_store_close(st);
	peer_stop(&p);
}

static void somebody_who_waits_goes_first(void)
{
	const struct reply script[] = {{STALL, ""}, {SEND, OK_HELLO}, {0}};
	struct order order = {.lock = PTHREAD_MUTEX_INITIALIZER, .first_interactive = -1};
	struct obj_store *st;
	struct peer p;
	int done;

	peer_start(&p, script);
	st = store_open(p.port, 0, 400, 1);
	submit_get(st, &order, false); /* times out; meanwhile the others queue up */
	while (p.served == 0)
		poll(NULL, 0, 1);
	for (int i = 0; i < 5; i++)
		submit_get(st, &order, i == 4);
	do {
		poll(NULL, 0, 1);
		pthread_mutex_lock(&order.lock);
		done = order.done;
		pthread_mutex_unlock(&order.lock);
	} while (done < 5);
	CHECK_EQ(order.first_interactive, 0);
	obj_store_close(st);
	peer_stop(&p);
}

int main(int argc, char **argv)
{
	static const struct unit_test tests[] = {{"errors_that_pass_are_retried", errors_that_pass_are_retried},
		{"and_given_up_in_the_end", and_given_up_in_the_end},
		{"final_answers_are_not_retried", final_answers_are_not_retried},
		{"slow_down_is_honoured", slow_down_is_honoured}, {"ranges", ranges},
		{"put_says_its_checksum", put_says_its_checksum}, {"lists_page_by_page", lists_page_by_page},
		{"a_dead_server_is_named", a_dead_server_is_named},
		{"closing_cancels_what_is_queued", closing_cancels_what_is_queued},
		{"stopping_does_not_wait_for_a_silent_server", stopping_does_not_wait_for_a_silent_server},
		{"reading_has_a_time_of_its_own", reading_has_a_time_of_its_own},
		{"somebody_who_waits_goes_first", somebody_who_waits_goes_first}, {0}};

	log_set_level(LOG_LVL_ERROR);
	unsetenv("http_proxy");
	return unit_main(argc, argv, tests);
}
