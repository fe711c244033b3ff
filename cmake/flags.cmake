# Compiler flags, as two interface targets that nothing exports:
#   sharena_private  what every file of this project is compiled with
#   sharena_strict   the warnings of the library, demos and benchmarks; tests do without -Wconversion

add_library(sharena_private INTERFACE)
target_compile_definitions(sharena_private INTERFACE _GNU_SOURCE)
target_compile_options(sharena_private INTERFACE -Wall -Wextra -Wundef -Wshadow)
if(SHARENA_WERROR)
    target_compile_options(sharena_private INTERFACE -Werror)
endif()

add_library(sharena_strict INTERFACE)
target_compile_options(sharena_strict INTERFACE -Wconversion)

# ASSERT and AUDIT (src/ipc/check.h) hang on SHARENA_DEBUG, never on NDEBUG.
set(has_debug_checks $<OR:$<CONFIG:Debug>,$<BOOL:${SHARENA_SANITIZE}>>)
target_compile_definitions(sharena_private INTERFACE $<${has_debug_checks}:SHARENA_DEBUG=1>)

if(SHARENA_SANITIZE)
    string(REPLACE ";" "," sanitizers "${SHARENA_SANITIZE}")
    # For the whole project, so that objects, tests and demos agree.
    add_compile_options(-fsanitize=${sanitizers} -fno-sanitize-recover=all -fno-omit-frame-pointer
                        -O1 -g)
    add_link_options(-fsanitize=${sanitizers})
    if(sanitizers MATCHES "thread" AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
        add_compile_options(-Wno-tsan) # "atomic_thread_fence is not supported": known
    endif()
endif()
