# The messages of events.proto as C. Generated code is compiled with its own flags, and its header
# is a system header: our warnings are for our code.
set(events_folder ${CMAKE_CURRENT_BINARY_DIR}/events_proto)
file(MAKE_DIRECTORY ${events_folder})
add_custom_command(
  OUTPUT ${events_folder}/events.pb-c.c ${events_folder}/events.pb-c.h
  COMMAND ${PROTOC_C} --proto_path=${CMAKE_CURRENT_SOURCE_DIR} --c_out=${events_folder} events.proto
  DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/events.proto
  VERBATIM)
add_library(rodeo_events_proto STATIC ${events_folder}/events.pb-c.c ${events_folder}/events.pb-c.h)
target_include_directories(rodeo_events_proto SYSTEM PUBLIC ${events_folder})
target_link_libraries(rodeo_events_proto PUBLIC lib_protobuf_c)

rodeo_library(rodeo_logs
  SOURCES event_record.c events.c metrics.c plot_draw.c plot_lines.c plot_confusion.c
  LINKS rodeo_base rodeo_events_proto lib_cairo lib_isal lib_jansson)

rodeo_program(plot_runs SOURCES plot_main.c LINKS rodeo_logs)
