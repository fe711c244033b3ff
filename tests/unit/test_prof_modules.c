/* test_prof_modules.c -- addresses become modules and places in their files, each module once. */
#include "heap/prof_modules.h"

#include <dlfcn.h>
#include <execinfo.h>
#include <link.h>

#include "heap_parts.h"

static const struct module *module_of(uint64_t frame) {
    uint64_t entry = frame >> FRAME_MODULE_SHIFT;
    assert_true(entry != 0 && entry <= shared_get(&heap_pool(fixture_heap())->modules));
    return heap_module(fixture_heap(), (uint32_t)entry - 1);
}

static uint64_t resolve(const void *address) {
    void *addresses[1] = {(void *)(uintptr_t)address};
    uint64_t frame = 0;
    prof_modules_resolve(fixture_heap(), fixture_self(), addresses, 1, &frame);
    return frame;
}

static uint32_t modules(void) {
    return shared_get(&heap_pool(fixture_heap())->modules);
}

/* As the loader says it. */
static uint64_t place_of(const void *address, char *path) {
    Dl_info info;
    struct link_map *map = NULL;
    assert_int_not_equal(dladdr1(address, &info, (void **)&map, RTLD_DL_LINKMAP), 0);
    assert_non_null(map);
    (void)snprintf(path, SCRATCH_MAX, "%s", map->l_name);
    return (uintptr_t)address - map->l_addr;
}

static void program_and_library(void **state) {
    (void)state;
    char path[SCRATCH_MAX];
    char exe[SCRATCH_MAX] = {0};
    prof_modules_init();
    uint64_t own = resolve((const void *)(uintptr_t)program_and_library);
    assert_int_equal(own & FRAME_ADDRESS,
                     place_of((const void *)(uintptr_t)program_and_library, path));
    assert_true(readlink("/proc/self/exe", exe, sizeof(exe) - 1) > 0);
    assert_string_equal(module_of(own)->path, exe);
    assert_int_equal(modules(), 1);
    const void *in_libc = dlsym(RTLD_DEFAULT, "qsort");
    uint64_t libc = resolve(in_libc);
    assert_int_equal(libc & FRAME_ADDRESS, place_of(in_libc, path));
    assert_string_equal(module_of(libc)->path, path);
    assert_true(module_of(libc)->build_id_bytes >= 16);
    assert_false(module_of(libc)->is_fixed);
    assert_true((libc & FRAME_ADDRESS) - module_of(libc)->code_vaddr < module_of(libc)->code_bytes);
    assert_int_equal(modules(), 2);
}

static void each_module_once(void **state) {
    (void)state;
    prof_modules_init();
    void *addresses[SAMPLE_FRAMES];
    uint64_t frames[SAMPLE_FRAMES];
    uint32_t count = (uint32_t)backtrace(addresses, SAMPLE_FRAMES);
    for (int i = 0; i < 3; i++) {
        prof_modules_resolve(fixture_heap(), fixture_self(), addresses, count, frames);
        for (uint32_t j = 0; j < count; j++) {
            (void)module_of(frames[j]);
        }
    }
    uint32_t had = modules();
    assert_true(had >= 2 && had <= 4); /* the test, libcmocka, libc; a sanitizer's */
    for (uint32_t i = 0; i < had; i++) {
        for (uint32_t j = 0; j < i; j++) {
            assert_memory_not_equal(heap_module(fixture_heap(), i), heap_module(fixture_heap(), j),
                                    sizeof(struct module));
        }
    }
}

static void nowhere(void **state) {
    (void)state;
    prof_modules_init();
    assert_int_equal(resolve((const void *)0x1234), 0x1234);
    assert_int_equal(modules(), 0);
}

static void no_room(void **state) {
    (void)state;
    sharena_t *heap = fixture_heap();
    struct pool *pool = heap_pool(heap);
    const void *here = (const void *)(uintptr_t)no_room;
    prof_modules_init();
    (void)fixture_self();
    refuse_storage(heap_module(heap, 0), 1);
    assert_int_equal(resolve(here) >> FRAME_MODULE_SHIFT, 0);
    assert_int_equal(resolve(here), (uintptr_t)here & FRAME_ADDRESS);
    grant_storage(heap_module(heap, 0), 1);
    uint64_t frame = resolve(here);
    assert_int_equal(frame >> FRAME_MODULE_SHIFT, 1);
    shared_u32 full = {MODULES_MAX};
    pool->modules = full;
    assert_int_equal(resolve(here), frame); /* it is there */
    assert_int_equal(resolve(dlsym(RTLD_DEFAULT, "qsort")) >> FRAME_MODULE_SHIFT, 0);
    full.value_ = 1;
    pool->modules = full;
}

static int resolves(void *arg) {
    (void)arg;
    return resolve((const void *)(uintptr_t)resolves) >> FRAME_MODULE_SHIFT == 1 ? 0 : 1;
}

/* Another process of the same program finds the entry of the first. */
static void the_same_in_each_process(void **state) {
    (void)state;
    prof_modules_init();
    uint64_t frame = resolve((const void *)(uintptr_t)resolves);
    assert_int_equal(frame >> FRAME_MODULE_SHIFT, 1);
    child_run(resolves, NULL);
    assert_int_equal(modules(), 1);
    (void)sharena_reap(fixture_heap());
}

int main(void) {
    const struct CMUnitTest tests[] = {
        with_heap(program_and_library),
        with_heap(each_module_once),
        with_heap(nowhere),
        with_heap(no_room),
        with_heap(the_same_in_each_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
