rodeo_test(test_demo_scene SOURCES test_demo_scene.c LINKS rodeo_demo)
rodeo_test(test_demo_set SOURCES test_demo_set.c LINKS rodeo_demo)
add_dependencies(test_demo_set demo_data)
