rodeo_program(train SOURCES train_main.c LINKS rodeo_train)
rodeo_program(evaluate SOURCES evaluate_main.c LINKS rodeo_train)
