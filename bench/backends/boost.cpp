/* boost.cpp -- Boost.Interprocess: managed_mapped_file, whose allocator has one mutex for all.
 *
 * It has a fixed size; the file is sparse, so the size is generous. It is mapped at the same
 * address everywhere, so that its pointers can be passed between processes as they are.
 */
#include "../driver/backend.h"

#include <cstdio>
#include <memory>
#include <new>

#include <boost/interprocess/managed_mapped_file.hpp>
#include <boost/version.hpp>

namespace ipc = boost::interprocess;

const char backend_name[] = "boost";
const enum sharing backend_sharing = SHARING_PROCESSES;

static ipc::managed_mapped_file *heap;
alignas(ipc::managed_mapped_file) static unsigned char room[sizeof(ipc::managed_mapped_file)];

int backend_open(const char *path, const struct needs *needs) {
    void *const base = reinterpret_cast<void *>(0x300000000000);
    const std::size_t bytes = 2 * needs->bytes + 64 * needs->blocks + (64u << 20);
    try {
        heap = new (room) ipc::managed_mapped_file(ipc::open_or_create, path, bytes, base);
    } catch (const std::exception &error) {
        std::fprintf(stderr, "bench: %s: %s\n", path, error.what());
        return -1;
    }
    return 0;
}

void backend_close() {
    std::destroy_at(heap);
}

void *backend_alloc(std::size_t size) {
    return heap->allocate(size, std::nothrow);
}

void backend_free(void *block) {
    heap->deallocate(block);
}

bool backend_flush() {
    return false;
}

void backend_purge() {
}

bool backend_reap() {
    return false;
}

enum check backend_check() {
    return CHECK_NONE; // check_sanity() adds up the free blocks, and looks at no other
}

const char *backend_version() {
    static char text[32];
    std::snprintf(text, sizeof(text), "%d.%d", BOOST_VERSION / 100000, BOOST_VERSION / 100 % 1000);
    return text;
}
