# Fuzzers: readers of files from outside, fed by libFuzzer under AddressSanitizer and
# UndefinedBehaviorSanitizer. Only in a build with clang and RODEO_FUZZ (the preset fuzz).
set(RODEO_FUZZ_SECONDS 30 CACHE STRING "How long ctest runs each fuzzer")
add_library(rodeo_fuzz_input STATIC fuzz/input.c)
target_link_libraries(rodeo_fuzz_input PUBLIC rodeo_base)
add_custom_target(fuzzers)

# rodeo_fuzzer(WHAT CORPUS ... LINKS ...): build-fuzz/tests/fuzz_WHAT from fuzz/fuzz_WHAT.c. It starts
# from fuzz/corpus/WHAT and from further folders, below tests/, of files that the reader takes; what it
# finds on the way is kept in the build folder. An input that makes it fail is left there, too.
function(rodeo_fuzzer what)
  cmake_parse_arguments(ARG "" "" "CORPUS;LINKS" ${ARGN})
  add_executable(fuzz_${what} fuzz/fuzz_${what}.c)
  target_link_libraries(fuzz_${what} PRIVATE rodeo_fuzz_input ${ARG_LINKS})
  target_link_options(fuzz_${what} PRIVATE -fsanitize=fuzzer)
  set_target_properties(fuzz_${what} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/tests)
  add_dependencies(fuzzers fuzz_${what})
  set(found ${CMAKE_BINARY_DIR}/fuzz/${what})
  file(MAKE_DIRECTORY ${found})
  list(TRANSFORM ARG_CORPUS PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  add_test(NAME fuzz_${what}
           COMMAND fuzz_${what} -max_total_time=${RODEO_FUZZ_SECONDS} -timeout=20 -rss_limit_mb=4096
                   -max_len=65536 -print_final_stats=1 -artifact_prefix=${found}- ${found}
                   ${CMAKE_CURRENT_SOURCE_DIR}/fuzz/corpus/${what} ${ARG_CORPUS})
  math(EXPR timeout "${RODEO_FUZZ_SECONDS} + 120")
  set_tests_properties(fuzz_${what} PROPERTIES TIMEOUT ${timeout})
endfunction()

rodeo_fuzzer(safetensors LINKS rodeo_model)
rodeo_fuzzer(pth CORPUS golden/pth LINKS rodeo_model)
rodeo_fuzzer(pairs LINKS rodeo_data)
rodeo_fuzzer(pack LINKS rodeo_data)
rodeo_fuzzer(tar LINKS rodeo_data)
rodeo_fuzzer(picture CORPUS golden/pictures LINKS rodeo_data)
