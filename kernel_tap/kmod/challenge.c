// SPDX-License-Identifier: GPL-2.0
/*
 * Challenges: whoever has a customization's key learns that this kernel has it in force, and with
 * which build of its module. What the module says of itself does not count: the build id is read
 * where the kernel keeps it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <crypto/hash.h>
#include <linux/elf.h>
#include <linux/sysfs.h>

#include "challenge.h"

#define BUILD_ID_MAX 20

#ifdef CONFIG_STACKTRACE_BUILD_ID
u8 l45_build_id(const struct module *owner, u8 build_id[BUILD_ID_MAX])
{
	BUILD_BUG_ON(sizeof(owner->build_id) != BUILD_ID_MAX);
	memcpy(build_id, owner->build_id, BUILD_ID_MAX);
	return memchr_inv(build_id, 0, BUILD_ID_MAX) ? BUILD_ID_MAX : 0;
}
#elif defined(CONFIG_KALLSYMS) && defined(CONFIG_SYSFS)
/* As in kernel/module/sysfs.c (Linux 6.1 to 6.12), which shows them in /sys/module/NAME/notes. */
struct module_notes_attrs {
	struct kobject *dir;
	unsigned int notes;
	struct bin_attribute attrs[];
};

#define NOTE_GNU_BUILD_ID 3 /* NT_GNU_BUILD_ID */

/* The section holds one note: a header, "GNU" with its NUL, and the id. */
static u8 read_note(const u8 *note, size_t size, u8 build_id[BUILD_ID_MAX])
{
	static const char name[] = "GNU";
	struct elf_note header;

	if (size < sizeof(header) + sizeof(name))
		return 0;
	memcpy(&header, note, sizeof(header));
	if (header.n_type != NOTE_GNU_BUILD_ID || header.n_namesz != sizeof(name) ||
	    memcmp(note + sizeof(header), name, sizeof(name)) || header.n_descsz > BUILD_ID_MAX ||
	    header.n_descsz > size - sizeof(header) - sizeof(name))
		return 0;
	memcpy(build_id, note + sizeof(header) + sizeof(name), header.n_descsz);
	return header.n_descsz;
}

u8 l45_build_id(const struct module *owner, u8 build_id[BUILD_ID_MAX])
{
	const struct module_notes_attrs *notes = owner->notes_attrs;

	for (unsigned int i = 0; notes && i < notes->notes; i++) {
		const struct bin_attribute *section = &notes->attrs[i];

		if (!strcmp(section->attr.name, ".note.gnu.build-id"))
			return read_note(section->private, section->size, build_id);
	}
	return 0;
}
#else
u8 l45_build_id(const struct module *owner, u8 build_id[BUILD_ID_MAX])
{
	return 0;
}
#endif

/* One for all, with the key of who asks: setting it and hashing are one step. */
static DEFINE_MUTEX(hmac_lock);
static struct crypto_shash *hmac;

static int sign(const u8 key[L45_KEY_SIZE], const u8 *message, u32 size, u8 answer[L45_ANSWER_SIZE])
{
	int err;

	mutex_lock(&hmac_lock);
	err = crypto_shash_setkey(hmac, key, L45_KEY_SIZE)
		      ?: crypto_shash_tfm_digest(hmac, message, size, answer);
	mutex_unlock(&hmac_lock);
	return err;
}

int l45_challenge(const struct l45_customization *customization, const u8 *nonce, u32 nonce_size,
		  u8 answer[L45_ANSWER_SIZE])
{
	const struct l45_code *code = customization->code;
	u8 message[L45_NONCE_MAX + L45_ID_SIZE + BUILD_ID_MAX];

	if (!customization->has_key)
		return -ENOKEY;
	if (!code->build_id_size)
		return -EOPNOTSUPP;
	if (nonce_size > L45_NONCE_MAX)
		return -EINVAL;
	memcpy(message, nonce, nonce_size);
	memcpy(message + nonce_size, customization->id, L45_ID_SIZE);
	memcpy(message + nonce_size + L45_ID_SIZE, code->build_id, code->build_id_size);
	return sign(customization->key, message, nonce_size + L45_ID_SIZE + code->build_id_size,
		    answer);
}

int l45_challenge_init(void)
{
	hmac = crypto_alloc_shash("hmac(sha256)", 0, 0);
	if (!IS_ERR(hmac))
		return 0;
	pr_err("this kernel has no hmac(sha256), which challenges need: error %ld\n",
	       PTR_ERR(hmac));
	return PTR_ERR(hmac);
}

void l45_challenge_exit(void)
{
	crypto_free_shash(hmac);
}
