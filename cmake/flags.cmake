# Compiler flags that every room shares, and rodeo_library(): one static library a room.
include(CheckCCompilerFlag)

add_library(rodeo_flags INTERFACE)
target_include_directories(rodeo_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_definitions(rodeo_flags INTERFACE _GNU_SOURCE _FILE_OFFSET_BITS=64
                                                 RODEO_VERSION="${PROJECT_VERSION}")
# For C alone: nvcc passes a file to the host's compiler after rewriting it, and gets its own options.
function(rodeo_c_options)
  target_compile_options(rodeo_flags INTERFACE "$<$<COMPILE_LANGUAGE:C>:${ARGN}>")
endfunction()
rodeo_c_options(-Wall -Wextra -Werror -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wvla
                -fno-math-errno)
# Messages are cut to their buffers on purpose.
check_c_compiler_flag(-Wformat-truncation RODEO_HAS_FORMAT_TRUNCATION)
if(RODEO_HAS_FORMAT_TRUNCATION)
  rodeo_c_options(-Wno-format-truncation)
endif()
target_link_libraries(rodeo_flags INTERFACE Threads::Threads m)

if(RODEO_NATIVE)
  check_c_compiler_flag(-march=native RODEO_HAS_MARCH_NATIVE)
  if(RODEO_HAS_MARCH_NATIVE)
    rodeo_c_options(-march=native)
  endif()
endif()
# Contraction into fused multiply-adds would make results depend on the compiler's choices.
rodeo_c_options(-ffp-contract=off)

if(RODEO_SANITIZE)
  rodeo_c_options(-fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(rodeo_flags INTERFACE -fsanitize=address,undefined)
endif()

if(RODEO_FUZZ)
  set(fuzz_flags -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all)
  # Loops that are to be vectorised are not, with all the checks in them.
  target_compile_options(rodeo_flags INTERFACE ${fuzz_flags} -fno-omit-frame-pointer -Wno-pass-failed)
  target_link_options(rodeo_flags INTERFACE ${fuzz_flags})
endif()

# rodeo_library(NAME SOURCES ... LINKS ...)
function(rodeo_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC rodeo_flags ${ARG_LINKS})
endfunction()

# rodeo_program(NAME SOURCES ... LINKS ...): an executable at the top of the build folder
function(rodeo_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE rodeo_flags ${ARG_LINKS})
endfunction()
