// SPDX-License-Identifier: GPL-2.0
/*
 * Code: what kernel modules register (module_main.c), known by the kernel module's name.
 *
 * An entry lives from its module's init to its exit. Whoever keeps one has a reference to the
 * module, so it cannot exit: "rmmod" says that it is in use. A module that is exiting while its
 * name is looked up gives no reference, and is as good as not loaded.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include "challenge.h"
#include "registry.h"

#define L45_MODULES_MAX 64

DEFINE_MUTEX(l45_codes_lock);
LIST_HEAD(l45_codes);
u32 l45_codes_generation = 1;

static struct l45_code *find(const char *name)
{
	struct l45_code *code;

	lockdep_assert_held(&l45_codes_lock);
	list_for_each_entry(code, &l45_codes, node)
		if (!strcmp(module_name(code->owner), name))
			return code;
	return NULL;
}

struct l45_code *l45_code_get(const char *name)
{
	struct l45_code *code;

	mutex_lock(&l45_codes_lock);
	code = find(name);
	if (code && !try_module_get(code->owner))
		code = NULL;
	if (code)
		atomic_inc(&code->users);
	mutex_unlock(&l45_codes_lock);
	return code;
}

void l45_code_put(struct l45_code *code)
{
	struct module *owner = code->owner;

	atomic_dec(&code->users);
	module_put(owner); /* from here on `code` may be gone */
}

static bool is_whole(const struct l45_module *module)
{
	if (!module->name || !module->name[0] ||
	    strnlen(module->name, L45_CODE_NAME_SIZE) == L45_CODE_NAME_SIZE)
		return false;
	switch (module->kind) {
	case L45_DATAGRAM:
	case L45_STREAM_HEAD:
	case L45_STREAM_WHOLE:
		return module->send && module->recv;
	case L45_STREAM_WATCH:
		return module->send;
	}
	return false;
}

static int check(const struct l45_module *module, struct module *owner, u32 abi)
{
	if (abi != L45_KMOD_ABI) {
		pr_err("%s: built for ABI %u, this l45 has %u: build it again for this l45\n",
		       module_name(owner), abi, L45_KMOD_ABI);
		return -ENOEXEC;
	}
	if (is_whole(module))
		return 0;
	pr_err("%s: no name, kind unknown, or a callback missing: see l45/module.h\n",
	       module_name(owner));
	return -EINVAL;
}

static int add(struct l45_code *code)
{
	int err = 0;

	mutex_lock(&l45_codes_lock);
	if (find(module_name(code->owner))) {
		pr_err("%s: has registered already: one module for each kernel module\n",
		       module_name(code->owner));
		err = -EEXIST;
	} else if (list_count_nodes(&l45_codes) >= L45_MODULES_MAX) {
		pr_err("%s: %u modules are loaded: remove one first\n", module_name(code->owner),
		       L45_MODULES_MAX);
		err = -ENOSPC;
	} else {
		list_add_tail(&code->node, &l45_codes);
		l45_codes_generation = l45_codes_generation + 1 ?: 1;
	}
	mutex_unlock(&l45_codes_lock);
	return err;
}

int l45_register(const struct l45_module *module, struct module *owner, u32 abi)
{
	struct l45_code *code;
	int err = check(module, owner, abi);

	if (err)
		return err;
	code = kzalloc(sizeof(*code), GFP_KERNEL);
	if (!code)
		return -ENOMEM;
	code->module = module;
	code->owner = owner;
	atomic_set(&code->users, 0);
	code->build_id_size = l45_build_id(owner, code->build_id);
	err = add(code);
	if (err)
		kfree(code);
	return err;
}
EXPORT_SYMBOL_GPL(l45_register);

/* From the module's exit: nobody has a reference to it. */
void l45_unregister(const struct l45_module *module)
{
	struct l45_code *code, *next;

	mutex_lock(&l45_codes_lock);
	list_for_each_entry_safe(code, next, &l45_codes, node) {
		if (code->module != module)
			continue;
		WARN_ON_ONCE(atomic_read(&code->users));
		list_del(&code->node);
		l45_codes_generation = l45_codes_generation + 1 ?: 1;
		kfree(code);
	}
	mutex_unlock(&l45_codes_lock);
}
EXPORT_SYMBOL_GPL(l45_unregister);
