/* Secrets inside the setting (spec/juicefs-format.md 2.3): Base64 of nonce, ciphertext and tag of AES-128-GCM under the MD5
 * of the UUID. The declarations are in redis/setting.h. Not a protection against whoever can read the setting: it only
 * keeps the secret from plain sight. */
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>

#include "redis/setting.h"

#define NONCE_LEN 12
#define TAG_LEN	  16

static bool key_from_uuid(const char *uuid, uint8_t key[EVP_MAX_MD_SIZE])
{
	unsigned n = 0;

	return EVP_Digest(uuid, strlen(uuid), key, &n, EVP_md5(), NULL) == 1 && n == 16;
}

int rds_secret_seal(const char *uuid, const char *plain, const uint8_t nonce[NONCE_LEN], char **out)
{
	size_t n = strlen(plain), total = NONCE_LEN + n + TAG_LEN;
	uint8_t key[EVP_MAX_MD_SIZE], *raw = malloc(total);
	char *text = malloc(4 * ((total + 2) / 3) + 1);
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len = 0, rc = -ENOMEM;

	if (!raw || !text || !ctx || n > RDS_SETTING_MAX || !key_from_uuid(uuid, key))
		goto out;
	memcpy(raw, nonce, NONCE_LEN);
	rc = -EIO;
	if (EVP_EncryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, nonce) != 1 ||
		EVP_EncryptUpdate(ctx, raw + NONCE_LEN, &len, (const uint8_t *)plain, (int)n) != 1 ||
		EVP_EncryptFinal_ex(ctx, raw + NONCE_LEN + n, &len) != 1 ||
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_GET_TAG, TAG_LEN, raw + NONCE_LEN + n) != 1)
		goto out;
	EVP_EncodeBlock((uint8_t *)text, raw, (int)total);
	*out = text;
	text = NULL;
	rc = 0;
out:
	EVP_CIPHER_CTX_free(ctx);
	explicit_bzero(key, sizeof(key));
	free(raw);
	free(text);
	return rc;
}

/* Decodes Base64 with padding; the length of the bytes, or -EBADMSG. `out` has room for 3/4 of the text. */
static long base64_decode(const char *text, uint8_t *out)
{
	size_t n = strlen(text);

	if (n == 0 || n % 4 || n > RDS_SETTING_MAX)
		return -EBADMSG;
	int len = EVP_DecodeBlock(out, (const uint8_t *)text, (int)n);
	if (len < 0)
		return -EBADMSG;
	return len - (text[n - 1] == '=') - (text[n - 2] == '=');
}

int rds_secret_open(const char *uuid, const char *stored, char **out)
{
	uint8_t key[EVP_MAX_MD_SIZE], *raw = malloc(strlen(stored) / 4 * 3 + 4);
	char *plain = NULL;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	int len = 0, rc = -ENOMEM;

	if (!raw || !ctx || !key_from_uuid(uuid, key))
		goto out;
	rc = -EBADMSG;
	long total = base64_decode(stored, raw);
	if (total < NONCE_LEN + TAG_LEN)
		goto out;
	size_t n = (size_t)total - NONCE_LEN - TAG_LEN;
	plain = calloc(1, n + 1);
	if (!plain) {
		rc = -ENOMEM;
		goto out;
	}
	if (EVP_DecryptInit_ex(ctx, EVP_aes_128_gcm(), NULL, key, raw) != 1 ||
		EVP_DecryptUpdate(ctx, (uint8_t *)plain, &len, raw + NONCE_LEN, (int)n) != 1 ||
		EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_GCM_SET_TAG, TAG_LEN, raw + NONCE_LEN + n) != 1 ||
		EVP_DecryptFinal_ex(ctx, (uint8_t *)plain + n, &len) != 1 || memchr(plain, 0, n))
		goto out;
	*out = plain;
	plain = NULL;
	rc = 0;
out:
	EVP_CIPHER_CTX_free(ctx);
	explicit_bzero(key, sizeof(key));
	free(raw);
	if (plain)
		explicit_bzero(plain, strlen(plain));
	free(plain);
	return rc;
}

static int algorithm_check(const struct rds_setting *s, struct errmsg *e)
{
	if (strcmp(s->encrypt_algo, "sm4gcm") == 0)
		return errmsg_set(e, -ENOTSUP, "volume %s stores its secrets with sm4gcm, which is not supported", s->name);
	return 0;
}

int rds_setting_decrypt(struct rds_setting *s, struct errmsg *e)
{
	char **secrets[] = {&s->secret_key, &s->session_token, &s->encrypt_key};
	char *plain[3] = {NULL};
	int rc = 0;

	if (!s->key_encrypted)
		return 0;
	rc = algorithm_check(s, e);
	for (int i = 0; i < 3 && rc == 0; i++) {
		if (!**secrets[i])
			continue;
		if (strcmp(*secrets[i], "removed") == 0) {
			rc = errmsg_set(e, -ENOKEY, "a secret of volume %s was removed by a dump: give it again with "
						    "`jfs format --secret-key`", s->name);
			break;
		}
		rc = rds_secret_open(s->uuid, *secrets[i], &plain[i]);
		if (rc == -EBADMSG)
			errmsg_set(e, rc, "a secret of volume %s cannot be decrypted: give it again with "
					  "`jfs format --secret-key`", s->name);
		else if (rc)
			errmsg_set(e, rc, "cannot decrypt the secrets of volume %s", s->name);
	}
	for (int i = 0; i < 3; i++) {
		if (plain[i] && rc == 0) {
			free(*secrets[i]);
			*secrets[i] = plain[i];
		} else {
			free(plain[i]);
		}
	}
	if (rc == 0)
		s->key_encrypted = false;
	return rc;
}

int rds_setting_encrypt(struct rds_setting *s, struct errmsg *e)
{
	char **secrets[] = {&s->secret_key, &s->session_token, &s->encrypt_key};
	int rc;

	if (s->key_encrypted || !(s->secret_key[0] || s->session_token[0] || s->encrypt_key[0]))
		return 0;
	rc = algorithm_check(s, e);
	if (rc)
		return rc;
	for (int i = 0; i < 3; i++) {
		uint8_t nonce[NONCE_LEN];
		char *sealed;

		if (!**secrets[i])
			continue;
		rc = RAND_bytes(nonce, sizeof(nonce)) == 1 ? rds_secret_seal(s->uuid, *secrets[i], nonce, &sealed) : -EIO;
		if (rc)
			return errmsg_set(e, rc, "cannot encrypt the secrets of volume %s", s->name);
		explicit_bzero(*secrets[i], strlen(*secrets[i]));
		free(*secrets[i]);
		*secrets[i] = sealed;
	}
	s->key_encrypted = true;
	return 0;
}
